"""A training run: a folder that holds all of it, and that resumes where it was stopped.

`_train` is the training, from top to bottom; `_Run` is what it needs around it: the
folder, its checkpoints and its log.
"""

import logging
import os
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

import versa
from versa.cache import atomic_write
from versa.models.ipcl.checkpoint import (
    CHECKPOINTS,
    load_newest,
    read_state,
    remove_leftovers,
    save_state,
)
from versa.models.ipcl.config import TrainConfig
from versa.models.ipcl.image_source import UnreachableImages
from versa.models.ipcl.learner import Learner, logged_parts, torch_flags
from versa.models.ipcl.loader import BadImages, Chunk
from versa.models.ipcl.logs import Doing, RunLog
from versa.models.ipcl.monitor import Monitor
from versa.models.ipcl.process_group import Launch, ProcessGroup, process_group
from versa.models.ipcl.recipes import config_text, differences, read_text
from versa.models.ipcl.schedule import Plan, epoch_order, one_cycle, rounds_of
from versa.models.ipcl.sources import open_images
from versa.models.ipcl.stopping import StopFlag, Stopped, stop_flag
from versa.progress import every_minute

logger = logging.getLogger("versa")

CONFIG = "config.yaml"


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    folder: Path
    step: int  # optimizer steps done
    n_steps: int  # of the whole training
    preempted: bool = False  # by a signal of the scheduler; the same command resumes
    interrupted: bool = False  # by Ctrl-C
    is_main: bool = True  # whether this is the process that writes the files

    @property
    def finished(self) -> bool:
        """Whether the training is complete."""
        return self.step == self.n_steps and not (self.preempted or self.interrupted)


def train(
    config: TrainConfig,
    folder: str | os.PathLike[str],
    *,
    new_data: bool = False,
    progress: bool = True,
    launch: Launch | None = None,
) -> Outcome:
    """Train a network, or resume its training.

    Everything is in one folder: ``config.yaml``, ``checkpoints/``, ``steps.csv``,
    ``epochs.csv``, ``bad_images.csv``, ``curve.png``, and TensorBoard's files if it is
    installed. Called again with the same configuration, it resumes from the newest
    checkpoint; on a CPU the result is the same to the last bit.

    Parameters
    ----------
    config : TrainConfig
        See `read_config`.
    folder : path-like
        Of the run; made if it does not exist. All processes must see it.
    new_data : bool
        Whether to resume although the images have changed.
    progress : bool
        Whether to show a bar.
    launch : Launch, optional
        Which process this is; by default as torchrun or srun say.

    Returns
    -------
    outcome : Outcome
        With ``step``, ``n_steps``, ``finished``, ``preempted`` (a scheduler's signal
        stopped it, all is saved) and ``interrupted`` (by Ctrl-C).

    Raises
    ------
    ValueError
        If the images do not suffice, the folder belongs to another training or is in
        use, the images have changed, too many are damaged, or the loss diverges.
    ConnectionError
        If another process of the run is lost.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4
    """
    from tqdm.auto import tqdm

    with (
        stop_flag() as flag,
        process_group(config.engine.device, launch) as group,
        torch_flags(config.precision, group.device),
        ExitStack() as stack,
    ):
        doing = Doing()
        if progress and group.is_main:
            stack.enter_context(every_minute(doing.text))
        run = _Run(config, Path(folder), group, flag, doing)
        group.broadcast(lambda: run.lock(stack))
        run.resume(new_data)
        run.open_log(stack)
        bar = tqdm(
            total=run.plan.n_steps,
            initial=run.step,
            unit="step",
            desc=run.folder.name,
            disable=None if progress and group.is_main else True,  # on a terminal
        )
        doing.shown = not bar.disable
        with bar:
            finished = _train(run, bar)
    interrupted, preempted = (False, False) if finished else run.asked
    return Outcome(
        run.folder, run.step, run.plan.n_steps, preempted, interrupted, group.is_main
    )


def _train(run: "_Run", bar: Any) -> bool:
    """All that is left of the training; False if it was stopped."""
    learner, plan, config = run.learner, run.plan, run.config
    first_step, saving_seconds = run.step, 60 * config.engine.save_minutes
    try:
        for epoch in range(run.step // plan.steps_per_epoch, plan.epochs + 1):
            if run.step == epoch * plan.steps_per_epoch:  # between two epochs
                run.evaluate(epoch)
                run.save_epoch(epoch)
            if epoch == plan.epochs:
                return True

            with closing(run.chunks(epoch)) as chunks:
                while run.step < (epoch + 1) * plan.steps_per_epoch:
                    start, waited = time.perf_counter(), 0.0
                    learner.begin()
                    for counts in run.rounds:  # groups of each process at a time
                        chunk = next(chunks)
                        waited += chunk.wait_seconds
                        run.check_signals()
                        views = learner.views(chunk, epoch)
                        learner.learn(views, chunk.labels, counts, run.step)
                        del views  # before the next ones are made

                    # exchange gradients, change the weights
                    lr, momentum = run.rates()
                    measures = learner.finish(run.step + 1, lr, momentum)
                    run.step += 1

                    seconds = time.perf_counter() - start
                    run.seconds += seconds
                    row = {
                        "step": run.step,
                        "epoch": epoch,
                        "images": run.step * plan.step_images,
                        "lr": lr,
                        "momentum": momentum,
                        **measures,
                        "images_per_second": plan.step_images / seconds,
                        "wait_share": waited / seconds,
                        "seconds": run.seconds,
                    }
                    run.log_step(row, bar)
                    if time.monotonic() > run.saved_at + saving_seconds:
                        run.save()
    except Stopped:  # by a signal to any of the processes
        learner.abandon()
        if run.step > first_step:
            run.save()
        return False
    except torch.OutOfMemoryError as error:
        raise ValueError(
            "the memory of the device must hold engine.chunk_groups groups; "
            f"{config.engine.chunk_groups} are too many. Lower it; or, for another "
            "training, choose precision=bf16 or fewer group_images."
        ) from error
    return True


class _Run:
    """One process of a run: its images, its folder, and where it stands."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        group: ProcessGroup,
        flag: StopFlag,
        doing: Doing,
    ) -> None:
        self.config, self.folder, self.group, self.flag = config, folder, group, flag
        self.doing = doing
        doing.begin("listing the images")
        self.images = images = open_images(config.data)
        doing.begin("making the network")
        self.plan = Plan(
            config.images_per_epoch or len(images),
            config.group_images,
            config.groups_per_step,
            config.epochs,
        )
        self.rounds = rounds_of(
            config.groups_per_step, group.n_ranks, config.engine.chunk_groups
        )
        self.check_alike()
        name = "bad_images.csv" if group.is_main else f"bad_images-{group.rank}.csv"
        self.bad = BadImages(
            len(images), limit=config.engine.max_bad, log=folder / name
        )
        val = None if config.monitor.val is None else open_images([config.monitor.val])
        self.monitor = Monitor(
            config, images, val, bad=self.bad, check_signals=self.check_signals
        )
        self.learner = Learner(
            config, n_images=len(images), n_classes=len(images.classes), group=group
        )
        self.step = 0  # optimizer steps done
        self.saved_epoch = 0  # of the newest checkpoint; -1 if it is of no epoch's end
        self.saved_at = time.monotonic()
        self.seconds = 0.0  # of training, over all starts
        self.asked = (False, False)  # to stop: by Ctrl-C, by a scheduler

    def check_alike(self) -> None:
        """Refuse processes that see different images."""
        digest = self.group.broadcast(lambda: self.images.digest)
        if any(self.group.all_reduce([float(digest != self.images.digest)])):
            raise ValueError(
                "all processes must see the same images; they do not. Give paths that "
                "are the same on all machines."
            )

    def lock(self, stack: ExitStack) -> None:
        """Take the folder, for this run alone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(FileLock(self.folder / ".lock", timeout=0))
        except Timeout:
            raise ValueError(
                f"the folder of a run must be used by one run; {self.folder} is in use "
                "by another. Choose another folder, or end that one."
            ) from None

    def resume(self, new_data: bool) -> None:
        """Load the newest checkpoint, if there is one."""
        folder = self.folder / CHECKPOINTS
        state: dict[str, Any] | None = None

        def choose() -> tuple[str, bool]:
            nonlocal state
            remove_leftovers(folder)
            path, changed = "", False
            found = load_newest(folder)
            if found is not None:
                path, state = str(found[0].path), found[1]
                changed = self.check_same(state, new_data)
            with atomic_write(self.folder / CONFIG) as temporary:
                temporary.write_text(config_text(self.config), encoding="utf-8")
            return path, changed

        path, changed = self.group.broadcast(choose)
        if changed:
            self.bad.forget()  # its numbers are those of other images
        self.resumed = bool(path)
        if not path:
            if self.config.init_from is not None:
                self.begin_from(Path(self.config.init_from).expanduser())
            return
        if state is None:
            state = read_state(Path(path))
        self.step = int(state["step"])
        if "-epoch-" in Path(path).name:
            self.saved_epoch = self.step // self.plan.steps_per_epoch
        else:
            self.saved_epoch = -1
        self.seconds = float(state["seconds"])
        self.learner.load(state)
        logger.info("%s resumes after step %d.", self.folder, self.step)

    def begin_from(self, place: Path) -> None:
        """Begin with what another training has learned."""
        if not place.is_dir():
            self.learner.begin_from(place)
            return
        found = load_newest(place / CHECKPOINTS)
        if found is None:
            raise ValueError(
                f"init_from must be a file of weights or the folder of a run; {place} "
                f"has no {CHECKPOINTS}."
            )
        self.learner.begin_after(found[1])

    def check_same(self, state: dict[str, Any], new_data: bool) -> bool:
        """Refuse to resume something else; whether the images are others."""
        begun = read_text(state["config"])
        if different := differences(begun, self.config):
            longer = (
                " A longer training is a new run by a new cycle: another folder, and "
                f"init_from={self.folder}."
            )
            raise ValueError(
                f"the options of a run must stay the same; {self.folder} was begun "
                f"with others ({'; '.join(different)}). Give those, or another folder."
                + (longer if begun.epochs != self.config.epochs else "")
            )
        if state["digest"] == self.images.digest:
            return False
        if not new_data:
            raise ValueError(
                f"the images of a run must stay the same; those of {self.folder} have "
                "changed since it was begun (names, sizes or number). Restore them, "
                "choose another folder, or allow it with --new-data."
            )
        logger.warning("the images have changed; the run resumes with the new.")
        return True

    def open_log(self, stack: ExitStack) -> None:
        """Begin to write down, in the main process."""
        if self.group.is_main:
            # without a checkpoint, what is written here is of another beginning
            step = self.step if self.resumed else -1
            parts = logged_parts(self.config)
            for key, why in self.config.unsettled.items():
                logger.warning("%s may not be the paper's: %s", key, why)
            self.log = RunLog(self.folder, step, parts, self.monitor.names)
            stack.callback(self.log.close)

    def log_step(self, row: dict[str, Any], bar: Any) -> None:
        """Write down a step, and show it."""
        if self.group.is_main:
            self.log.add_step(row)
        text = (
            f"loss {row['loss']:.4g}, {row['images_per_second']:.4g} images/s, "
            f"waiting {row['wait_share']:.0%}"
        )
        self.doing.note(f"step {row['step']} of {self.plan.n_steps}, {text}")
        bar.set_postfix_str(text, refresh=False)
        bar.update()

    def chunks(self, epoch: int) -> Generator[Chunk, None, None]:
        """Decoded images of this process for the rounds of an epoch that are left."""
        loader = self.learner.loader(self.images, self.bad)
        blocks = self.blocks(epoch, self.step - epoch * self.plan.steps_per_epoch)
        self.doing.begin(f"epoch {epoch + 1} of {self.plan.epochs}", bar=True)
        try:
            yield from loader.chunks(blocks, seed=self.config.seed, epoch=epoch)
        except UnreachableImages as error:
            self.give_up(error)

    def blocks(self, epoch: int, first_step: int) -> Iterator[np.ndarray]:
        """Images of this process, round after round."""
        config, plan = self.config, self.plan
        order = epoch_order(
            self.images.counts,
            seed=config.seed,
            epoch=epoch,
            images_per_epoch=config.images_per_epoch,
            weights=config.weights or None,
        )
        rank, size = self.group.rank, config.group_images
        for step in range(first_step, plan.steps_per_epoch):
            place = step * plan.step_images
            for counts in self.rounds:
                start = place + sum(counts[:rank]) * size
                yield order[start : start + counts[rank] * size]
                place += sum(counts) * size

    def rates(self) -> tuple[float, float]:
        """Learning rate and momentum of the step that is being made."""
        chosen = self.config.optimizer
        return one_cycle(
            *self.plan.last_group(self.step),
            peak=chosen.lr,
            warmup=chosen.warmup,
            start_divisor=chosen.start_divisor,
            end_divisor=chosen.end_divisor,
            momenta=chosen.momenta,
        )

    def give_up(self, error: UnreachableImages) -> None:
        """Stop all processes together, to be started again: no image is damaged."""
        logger.error("%s", error)
        self.flag.preempted = True
        self.check_signals()

    def check_signals(self) -> None:
        """Stop all processes together if one of them was asked to."""
        values = [float(self.flag.interrupted), float(self.flag.preempted)]
        interrupted, preempted = self.group.all_reduce(values)
        self.asked = (interrupted > 0, preempted > 0)
        if any(self.asked):
            raise Stopped

    def evaluate(self, epoch: int) -> None:
        """Measure and write down what an epoch brought, if that was not done before."""
        if self.group.broadcast(lambda: self.log.has_epoch(epoch)):
            return
        every = self.config.monitor.every
        found: dict[str, float] = {}
        if every and (epoch % every == 0 or epoch == self.plan.epochs):
            self.doing.begin(f"measuring after epoch {epoch}")
            try:
                found = self.monitor.measure(self.learner)
            except UnreachableImages as error:
                self.give_up(error)
        (n_damaged,) = self.group.all_reduce([float(self.bad.n_skipped)])
        if self.group.is_main:
            row = {"epoch": epoch, "step": self.step, "seconds": self.seconds}
            self.log.add_epoch({**row, "damaged_images": int(n_damaged), **found})

    def save_epoch(self, epoch: int) -> None:
        """Write the checkpoint of an epoch's end; the last one must succeed."""
        if self.saved_epoch == epoch:
            return
        self.saved_epoch = epoch
        kept = self.save(epoch)
        if any(self.group.all_reduce([float(epoch == self.plan.epochs and not kept)])):
            raise ValueError(
                f"the last checkpoint must be written to {self.folder}; it could not "
                "be. Make room and run the same command again: it resumes from the "
                "checkpoint before."
            )

    def save(self, epoch: int | None = None) -> bool:
        """Write a checkpoint; False if it could not be, and the one before is kept."""
        self.saved_at = time.monotonic()
        if not self.group.is_main:
            return True
        state = {
            "versa": versa.__version__,
            "config": config_text(self.config),
            "digest": self.images.digest,
            "n_images": len(self.images),
            "classes": list(self.images.classes),
            "step": self.step,
            "seconds": self.seconds,
            **self.learner.state(),
        }
        folder = self.folder / CHECKPOINTS
        keep = self.config.engine.keep
        try:
            save_state(folder, state, step=self.step, epoch=epoch, keep=keep)
        except OSError as error:
            remove_leftovers(folder)
            free = shutil.disk_usage(self.folder).free / 1e6
            logger.warning(
                "the checkpoint of step %d could not be written (%s; %.0f MB free); "
                "the one before is kept and the training continues. Make room.",
                *(self.step, error.strerror or error, free),
            )
            return False
        return True
