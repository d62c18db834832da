"""The processes of one training run: who they are, what they exchange, who is missing.

Started by ``torchrun``, by ``srun``, or alone. Each process watches the heartbeats of
the others, so that none waits for a dead one, whatever the network library does.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from versa.parallel import n_cores

logger = logging.getLogger("versa")

_BEAT = 3.0  # seconds between two signs of life
_DEAD = 25.0  # seconds without one
_GRACE = 12.0  # for the main thread to stop by itself, then the process is ended
_TIMEOUT = timedelta(minutes=30)  # of an exchange between processes that live
_START = timedelta(minutes=5)  # for all to come
_REFUSED = 2  # exit code
_BUCKET = 2**23  # numbers sent together

T = TypeVar("T")


@dataclass(frozen=True)
class Launch:
    """How this process was started."""

    rank: int = 0
    n_ranks: int = 1
    local_rank: int = 0
    address: str = ""
    port: int = 0
    served: bool = False
    attempt: int = 0
    n_local: int = 1


def launch_from(environment: Mapping[str, str]) -> Launch:
    """Read what torchrun or srun says about this process."""
    get = environment.get
    if "RANK" in environment and "WORLD_SIZE" in environment:  # torchrun
        return Launch(
            int(environment["RANK"]),
            int(environment["WORLD_SIZE"]),
            int(get("LOCAL_RANK", "0")),
            get("MASTER_ADDR", "localhost"),
            int(get("MASTER_PORT", "29500")),
            get("TORCHELASTIC_USE_AGENT_STORE", "").lower() in ("true", "1"),
            int(get("TORCHELASTIC_RESTART_COUNT", "0")),
            int(get("LOCAL_WORLD_SIZE", "1")),
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


class Team:
    """The processes of a run, as one of them sees them."""

    def __init__(
        self,
        launch: Launch,
        device: torch.device,
        watch: "Watch | None" = None,
        talk: Any = None,
    ) -> None:
        self.rank = launch.rank
        self.n_ranks = launch.n_ranks
        self.device = device
        self.n_local = launch.n_local
        self._watch = watch
        self._talk = talk

    @property
    def cores(self) -> int:
        """Cores for the threads of this process."""
        return max(1, n_cores() // self.n_local)

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.n_ranks == 1

    def total(self, values: Sequence[float]) -> list[float]:
        """Sum of numbers over all processes, as float64."""
        if self.alone:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(tensor, group=self._talk)
        found: list[float] = tensor.tolist()
        return found

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their sums over all processes, in place."""
        if self.alone:
            return
        for start, stop in _buckets([t.numel() for t in tensors]):
            part = tensors[start:stop]
            flat = torch.cat([t.reshape(-1) for t in part])
            distributed.all_reduce(flat)
            pieces = flat.split([t.numel() for t in part])
            for tensor, piece in zip(part, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))

    def gathered(self, rows: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """Rows of all processes, process 0 first."""
        if self.alone:
            return rows
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(parts, padded)
        pairs = zip(parts, counts, strict=True)
        return torch.cat([part[:count] for part, count in pairs])

    def led(self, action: Callable[[], T]) -> T:
        """Let process 0 do something, and tell all processes what came out."""
        if self.alone:
            return action()
        message: list[Any] = [None, None]
        if self.leads:
            try:
                message[0] = action()
            except (ValueError, OSError) as error:
                message[1] = str(error)
                distributed.broadcast_object_list(message, src=0, group=self._talk)
                raise
        distributed.broadcast_object_list(message, src=0, group=self._talk)
        if message[1] is not None:
            raise ValueError(message[1])
        result: T = message[0]
        return result

    def missing(self, patience: float = _DEAD + 3 * _BEAT) -> str:
        """Wait until it is known which process is gone; empty if none is."""
        if self._watch is None:
            return ""
        self._watch.found.wait(patience)
        return self._watch.sentence


class Watch(threading.Thread):
    """Heartbeats of all processes through a store of their own."""

    def __init__(self, store: Any, launch: Launch, *, grace: float = _GRACE) -> None:
        super().__init__(name="versa-heartbeat", daemon=True)
        self.store = store
        self.launch = launch
        self.grace = grace
        self.found = threading.Event()
        self.sentence = ""
        self._over = threading.Event()

    def run(self) -> None:
        """Send signs of life and look for those of the others."""
        own = self.launch.rank
        others = [r for r in range(self.launch.n_ranks) if r != own]
        beats, seen = dict.fromkeys(others, ""), dict.fromkeys(others, time.monotonic())
        count, silent_since = 0, None
        while not self._over.wait(_BEAT if count else 0):
            count += 1
            try:
                self.store.set(f"beat/{own}", f"{count}")
                for other in others:
                    if self.store.check([f"end/{other}"]):
                        self._lost(other, self.store.get(f"end/{other}").decode())
                        return
                    beat = ""  # it has not come this far yet
                    if self.store.check([f"beat/{other}"]):
                        beat = self.store.get(f"beat/{other}").decode()
                    if beat != beats[other]:
                        beats[other], seen[other] = beat, time.monotonic()
                    elif time.monotonic() - seen[other] > _DEAD:
                        self._lost(other, "")
                        return
                silent_since = None
            except (RuntimeError, OSError):  # the store is that of process 0
                now = time.monotonic()
                silent_since = silent_since or now
                if not self.launch.rank or self._over.is_set():
                    return
                if now - silent_since > 2 * _BEAT:
                    self._lost(0, "")
                    return

    def stop(self, reason: str) -> None:
        """End the watch; tell the others why, if it is not their fault."""
        self._over.set()
        if self.is_alive():
            self.join(self.grace)  # one client is not for two threads
        if reason and not self.found.is_set():
            try:
                self.store.set(f"end/{self.launch.rank}", reason)
            except (RuntimeError, OSError):
                logger.debug("process 0 no longer listens.")

    def _lost(self, rank: int, reason: str) -> None:
        why = f": {reason}" if reason else " without a word; look at its own output"
        self.sentence = (
            f"process {rank} of {self.launch.n_ranks} stopped{why.rstrip('.')}. Run "
            "the same command again: it goes on from the last checkpoint."
        )
        self.found.set()
        if self._over.wait(self.grace):
            return
        # The main thread waits inside the network library, where no exception reaches
        logger.error("error: %s", self.sentence)
        os._exit(_REFUSED)


@contextmanager
def team_started(device: str | None, launch: Launch | None = None) -> Iterator[Team]:
    """Bring the processes of a run together."""
    launch = launch_from(os.environ) if launch is None else launch
    place = _place(device, launch)
    if launch.n_ranks == 1:
        yield Team(launch, place)
        return
    backend = "nccl" if place.type == "cuda" else "gloo"
    try:
        store = distributed.TCPStore(
            launch.address,
            launch.port,
            launch.n_ranks,
            launch.rank == 0 and not launch.served,
            _START,
        )
        distributed.init_process_group(
            backend,
            store=distributed.PrefixStore(f"versa/{launch.attempt}", store),
            rank=launch.rank,
            world_size=launch.n_ranks,
            timeout=_TIMEOUT,
        )
        watch = Watch(_second_store(launch), launch)
    except (distributed.DistError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConnectionError(
            f"{launch.n_ranks} processes must meet at {launch.address}:{launch.port}; "
            f"process {launch.rank} did not meet them ({reason}). Look at the output "
            "of the others."
        ) from error
    watch.start()
    talk = None if backend == "gloo" else distributed.new_group(backend="gloo")
    team = Team(launch, place, watch, talk)
    reason = "it was ended"
    try:
        yield team
        team.total([0.0])  # who ends first must not look dead to the others
        reason = ""
    except RuntimeError as error:
        reason = _first_line(error)
        lost = isinstance(error, distributed.DistError) or _says_lost(error)
        if lost and (sentence := team.missing()):
            raise ConnectionError(sentence) from error
        raise
    except Exception as error:
        reason = _first_line(error)
        raise
    finally:
        watch.stop(reason)
        # nccl may wait for others that cannot answer; threads of gloo that are still
        # there when the interpreter ends may abort it
        if not reason or backend == "gloo":
            distributed.destroy_process_group()


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


def _place(device: str | None, launch: Launch) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return torch.device("cpu")
    n_devices = torch.cuda.device_count()
    if launch.local_rank >= n_devices:
        raise ValueError(
            f"engine.device must be there for every process; this machine has "
            f"{n_devices} CUDA devices for process {launch.local_rank}, counted from "
            "0. Start fewer processes per machine, or set engine.device=cpu."
        )
    torch.cuda.set_device(launch.local_rank)
    return torch.device("cuda", launch.local_rank)


def _second_store(launch: Launch) -> Any:
    """A store of the heartbeats alone: one client is not for two threads."""
    address: list[Any] = [None]
    store = None
    if launch.rank == 0:
        store = distributed.TCPStore(
            launch.address, 0, is_master=True, wait_for_workers=False, timeout=_START
        )
        address = [store.port]
    distributed.broadcast_object_list(address, src=0)
    if store is None:
        store = distributed.TCPStore(
            launch.address, address[0], is_master=False, timeout=_START
        )
    store.set_timeout(timedelta(seconds=10))
    return store


def _says_lost(error: RuntimeError) -> bool:
    words = ("closed by peer", "reset by peer", "gloo", "nccl", "broken pipe")
    text = str(error).lower()
    return any(word in text for word in words)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
