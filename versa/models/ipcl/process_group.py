"""The processes of one training run: torch's process group.

They are started by ``torchrun``, by ``srun``, or there is one alone. Process 0 decides
and writes the files; what it decides is broadcast. A process that dies breaks its
connections, so that the next exchange of the others fails; one that hangs is given up
after the time-out of the group.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from versa.parallel import n_cores

_TIMEOUT = timedelta(minutes=10)  # for all to come, and of every exchange
_LAST_EXCHANGE = 0.05  # seconds; see `process_group`
_BUCKET = 2**23  # numbers sent together

T = TypeVar("T")


@dataclass(frozen=True)
class Launch:
    """How this process was started; alone by default."""

    rank: int = 0
    n_ranks: int = 1
    local_rank: int = 0  # on this machine
    address: str = ""  # where process 0 listens, or torchrun
    port: int = 0
    n_local: int = 1  # processes that share the cores of this one


def launch_from(environment: Mapping[str, str]) -> Launch:
    """What torchrun or srun says about this process."""
    get = environment.get
    if "RANK" in environment and "WORLD_SIZE" in environment:  # torchrun
        return Launch(
            int(environment["RANK"]),
            int(environment["WORLD_SIZE"]),
            int(get("LOCAL_RANK", "0")),
            get("MASTER_ADDR", "localhost"),
            int(get("MASTER_PORT", "29500")),
            int(get("LOCAL_WORLD_SIZE", "1")),  # torchrun binds none to some cores
        )
    if int(get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in environment:
        nodes = get("SLURM_STEP_NODELIST", get("SLURM_JOB_NODELIST", ""))
        address = get("MASTER_ADDR", _first_node(nodes))
        if not address:
            raise ValueError(
                "MASTER_ADDR must name the machine of process 0, which srun does not "
                "say. Set it."
            )
        port = 20000 + int(get("SLURM_JOB_ID", "0")) % 20000
        return Launch(
            int(environment["SLURM_PROCID"]),
            int(environment["SLURM_STEP_NUM_TASKS"]),
            int(get("SLURM_LOCALID", "0")),
            address,
            int(get("MASTER_PORT", port)),
        )
    return Launch()


def _first_node(nodes: str) -> str:
    """First name of a list such as ``gpu[07-08,11]-a[1-2],cpu3``."""
    match = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", match[0]) if match else ""


class ProcessGroup:
    """The processes of a run, as this one sees them; alone it needs no network."""

    def __init__(
        self, launch: Launch, device: torch.device, cpu_group: Any = None
    ) -> None:
        self.rank = launch.rank
        self.n_ranks = launch.n_ranks
        self.device = device  # of this process
        self.cores = max(1, n_cores() // launch.n_local)  # for its threads
        # for numbers of the CPU, so that no process waits for its GPU to exchange them
        self._cpu_group = cpu_group

    @property
    def is_main(self) -> bool:
        """Whether this is process 0, which writes the files."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.n_ranks == 1

    def all_reduce(self, values: Sequence[float]) -> list[float]:
        """Sums of numbers over all processes, as float64."""
        if self.alone:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        with _exchange():
            distributed.all_reduce(tensor, group=self._cpu_group)
        found: list[float] = tensor.tolist()
        return found

    def all_reduce_tensors(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors of one type on the device by their sums, in place."""
        if self.alone:
            return
        for start, stop in _buckets([t.numel() for t in tensors]):
            part = tensors[start:stop]
            flat = torch.cat([t.reshape(-1) for t in part])
            with _exchange():
                distributed.all_reduce(flat)
            pieces = flat.split([t.numel() for t in part])
            for tensor, piece in zip(part, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))

    def all_gather(self, rows: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """Rows (counts[rank], ...) of all processes, process 0 first."""
        if self.alone:
            return rows
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        with _exchange():
            distributed.all_gather(parts, padded)
        pairs = zip(parts, counts, strict=True)
        return torch.cat([part[:count] for part, count in pairs])

    def broadcast(self, action: Callable[[], T]) -> T:
        """What an action of process 0 returns (small and plain), in all processes.

        A ValueError or OSError of process 0 is raised in all of them.
        """
        if self.alone:
            return action()
        message: list[Any] = [None, None]
        failure: Exception | None = None
        if self.is_main:
            try:
                message[0] = action()
            except (ValueError, OSError) as error:
                message[1], failure = str(error), error
        with _exchange():
            distributed.broadcast_object_list(message, src=0, group=self._cpu_group)
        if message[1] is not None:
            raise failure or ValueError(message[1])
        result: T = message[0]
        return result


@contextmanager
def process_group(
    device: str | None, launch: Launch | None = None
) -> Iterator[ProcessGroup]:
    """Bring the processes of a run together; at the end each waits for the others.

    `device` is "cpu" or "cuda", by default CUDA where there is a device; each process
    of a machine has one of its own. Raises ConnectionError if a process is lost.
    """
    launch = launch_from(os.environ) if launch is None else launch
    place = _device_of(device, launch)
    if launch.n_ranks == 1:
        yield ProcessGroup(launch, place)
        return
    backend = "nccl" if place.type == "cuda" else "gloo"
    with _exchange(f"all {launch.n_ranks} must meet at {launch.address}; "):
        place_of_meeting = f"tcp://{launch.address}:{launch.port}"
        meeting = distributed.rendezvous(
            place_of_meeting, launch.rank, launch.n_ranks, timeout=_TIMEOUT
        )
        store = next(iter(meeting))[0]
        # torchrun keeps its store when it begins again: old addresses are still in it
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        distributed.init_process_group(
            backend,
            store=distributed.PrefixStore(f"attempt-{attempt}", store),
            rank=launch.rank,
            world_size=launch.n_ranks,
            timeout=_TIMEOUT,
        )
        cpu_group = None
        if backend == "nccl":
            cpu_group = distributed.new_group(backend="gloo", timeout=_TIMEOUT)
    group = ProcessGroup(launch, place, cpu_group)
    ended_well = False
    try:
        yield group
        group.all_reduce([0.0])  # process 0 may still be writing
        ended_well = True
    finally:
        # nccl may wait for others that cannot answer; threads of gloo that are still
        # there when the interpreter ends may abort it
        if ended_well or backend == "gloo":
            # with torch 2.6 the thread of gloo may still need the interpreter's lock
            # for its last exchange; destroying the group then waits for ever
            time.sleep(_LAST_EXCHANGE)
            distributed.destroy_process_group()


@contextmanager
def _exchange(what: str = "") -> Iterator[None]:
    """An exchange with the other processes, which fails if one of them is lost."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # DistError is one
        reason = " ".join(str(error).split())[:200]
        raise ConnectionError(
            f"another process of the run stopped or does not answer ({what}{reason})."
            " Look at the output of the others, then run the same command again: it "
            "resumes from the last checkpoint."
        ) from error


def _buckets(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Blocks of tensors that are sent together."""
    start = total = 0
    for k, size in enumerate(sizes):
        if total and total + size > _BUCKET:
            yield start, k
            start, total = k, 0
        total += size
    if total:
        yield start, len(sizes)


def _device_of(device: str | None, launch: Launch) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return torch.device("cpu")
    n_devices = torch.cuda.device_count()
    local = launch.local_rank
    if n_devices == 1 and launch.n_local == 1:  # srun --gpus-per-task=1 shows its own
        local = 0
    if local >= n_devices:
        raise ValueError(
            f"engine.device must be there for every process; this machine has "
            f"{n_devices} CUDA devices for process {launch.local_rank}, counted from "
            "0. Start fewer processes per machine, or set engine.device=cpu."
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
