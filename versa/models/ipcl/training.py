"""A training run: a folder that holds all of it, and goes on where it was stopped."""

import logging
import os
import shutil
import time
from collections.abc import Iterator
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
from versa.models.ipcl.image_source import ImageSource
from versa.models.ipcl.learner import Learner, loss_parts
from versa.models.ipcl.loader import BadImages
from versa.models.ipcl.logs import RunLog
from versa.models.ipcl.monitor import Monitor, Stopped
from versa.models.ipcl.process_group import Launch, Team, team_started
from versa.models.ipcl.recipes import config_text, differences, read_text
from versa.models.ipcl.schedule import Plan, epoch_order, one_cycle, rounds_of
from versa.models.ipcl.sources import open_images
from versa.models.ipcl.stopping import StopFlag, stop_flag

logger = logging.getLogger("versa")

CONFIG = "config.yaml"


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    folder: Path
    step: int
    n_steps: int
    preempted: bool = False
    interrupted: bool = False
    leads: bool = True

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
    """Train a network, or go on with its training.

    Everything lies in one folder: ``config.yaml``, ``checkpoints/``, ``steps.csv``,
    ``epochs.csv``, ``bad_images.csv``, ``curve.png``, and TensorBoard's files if it is
    installed. Called again with the same configuration, it goes on from the newest
    checkpoint; on a CPU the result is the same to the last bit.

    Parameters
    ----------
    config : TrainConfig
    folder : path-like
        Of the run; made if it does not exist. All processes must see it.
    new_data : bool
        Whether to go on although the images have changed.
    progress : bool
        Whether to show a bar.
    launch : Launch, optional
        Who this process is; by default what torchrun or srun say.

    Returns
    -------
    outcome : Outcome

    Raises
    ------
    ValueError
        If the images do not suffice, the folder belongs to another training or is in
        use, the images have changed, too many are damaged, or the loss diverges.
    ConnectionError
        If another process of the run is gone.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4
    """
    with (
        stop_flag() as flag,
        team_started(config.engine.device, launch) as team,
        ExitStack() as stack,
    ):
        images = open_images(config.data)
        _check_alike(team, images)
        run = _Run(config, Path(folder), images, team, flag, new_data)
        team.led(lambda: run.lock(stack))
        try:
            return run.go(progress)
        except torch.OutOfMemoryError as error:
            raise ValueError(
                "the memory of the device must hold engine.chunk_groups groups; "
                f"{config.engine.chunk_groups} are too many. Lower it; or, for another "
                "training, choose precision=bf16 or fewer group_images."
            ) from error


def _check_alike(team: Team, images: ImageSource) -> None:
    digest = team.led(lambda: images.digest)
    if any(team.total([float(digest != images.digest)])):
        raise ValueError(
            "all processes must see the same images; they do not. Give paths that are "
            "the same on all machines."
        )


class _Run:
    """One process of a run."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        images: ImageSource,
        team: Team,
        flag: StopFlag,
        new_data: bool,
    ) -> None:
        self.config, self.folder, self.images = config, folder, images
        self.team, self.flag, self.new_data = team, flag, new_data
        total = config.images_per_epoch or len(images)
        self.plan = Plan(
            total, config.group_images, config.groups_per_step, config.epochs
        )
        self.rounds = rounds_of(
            config.groups_per_step, team.n_ranks, config.engine.chunk_groups
        )
        name = "bad_images.csv" if team.leads else f"bad_images-{team.rank}.csv"
        self.bad = BadImages(
            len(images), limit=config.engine.max_bad, log=folder / name
        )
        val = None if config.monitor.val is None else open_images([config.monitor.val])
        self.monitor = Monitor(
            config, images, val, bad=self.bad, stopping=self.stopping
        )
        self.learner = Learner(
            config,
            n_images=len(images),
            n_classes=len(images.classes),
            team=team,
        )
        self.step = 0
        self.ended_epoch = True  # whether the newest checkpoint is of an epoch's end
        self.seconds = 0.0  # of training, over all starts
        self.saved_at = time.monotonic()
        self.asked = (False, False)

    def lock(self, stack: ExitStack) -> None:
        """Take the folder, for this run alone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            stack.enter_context(lock)
        except Timeout:
            raise ValueError(
                f"the folder of a run must be used by one run; {self.folder} is in use "
                "by another. Choose another folder, or end that one."
            ) from None

    def go(self, progress: bool) -> Outcome:
        """Train until the end, or until someone asks to stop."""
        from tqdm.auto import tqdm

        self.resume()
        if self.team.leads:
            # without a checkpoint, what is written here is of another beginning
            step = self.step if self.resumed else -1
            parts = loss_parts(self.config)
            self.log = RunLog(self.folder, step, parts, self.monitor.names)
        bar = tqdm(
            total=self.plan.n_steps,
            initial=self.step,
            unit="step",
            desc=self.folder.name,
            disable=None if progress and self.team.leads else True,  # on a terminal
        )
        try:
            with bar:
                stopped = not self.train_epochs(bar)
        finally:
            if self.team.leads:
                self.log.close()
        interrupted, preempted = self.asked if stopped else (False, False)
        return Outcome(
            self.folder,
            self.step,
            self.plan.n_steps,
            preempted=preempted,
            interrupted=interrupted,
            leads=self.team.leads,
        )

    def resume(self) -> None:
        """Go on from the newest checkpoint, or begin."""
        folder = self.folder / CHECKPOINTS
        state: dict[str, Any] | None = None

        def choose() -> tuple[str, bool]:
            nonlocal state
            remove_leftovers(folder)
            path, changed = "", False
            found = load_newest(folder)
            if found is not None:
                path, state = str(found[0].path), found[1]
                changed = self.check_same(state)
            with atomic_write(self.folder / CONFIG) as temporary:
                temporary.write_text(config_text(self.config), encoding="utf-8")
            return path, changed

        path, changed = self.team.led(choose)
        if changed:
            self.bad.forget()  # its numbers are those of other images
        self.resumed = bool(path)
        if not path:
            return
        if state is None:
            state = read_state(Path(path))
        self.ended_epoch = "-epoch-" in Path(path).name
        self.step = int(state["step"])
        self.seconds = float(state["seconds"])
        self.learner.load(state)
        logger.info("%s goes on after step %d.", self.folder, self.step)

    def check_same(self, state: dict[str, Any]) -> bool:
        """Refuse to go on with something else; whether the images are others."""
        begun = read_text(state["config"])
        if different := differences(begun, self.config):
            raise ValueError(
                f"the options of a run must stay the same; {self.folder} was begun "
                f"with others ({'; '.join(different)}). Give those, or another folder."
            )
        if state["digest"] == self.images.digest:
            return False
        if not self.new_data:
            raise ValueError(
                f"the images of a run must stay the same; those of {self.folder} have "
                "changed since it was begun (names, sizes or number). Restore them, "
                "choose another folder, or allow it with --new-data."
            )
        logger.warning("the images have changed; the run goes on with the new.")
        return True

    def train_epochs(self, bar: Any) -> bool:
        """All that is left of the training; False if it was stopped."""
        per_epoch = self.plan.steps_per_epoch
        started_at = self.step
        for epoch in range(self.step // per_epoch, self.plan.epochs + 1):
            if self.step == epoch * per_epoch:
                if not self.end_epoch(epoch):
                    if self.step > started_at:
                        self.save()
                    return False
                if self.step > started_at or not self.ended_epoch:
                    self.ended_epoch = True
                    kept = self.save(epoch)
                    last = epoch == self.plan.epochs
                    if any(self.team.total([float(last and not kept)])):
                        raise ValueError(
                            f"the last checkpoint must be written to {self.folder}; it "
                            "could not be. Make room and run the same command again: "
                            "it goes on from the checkpoint before."
                        )
            if epoch == self.plan.epochs:
                return True
            if not self.train_epoch(epoch, bar):
                self.save()
                return False
        return True

    def train_epoch(self, epoch: int, bar: Any) -> bool:
        """The steps of an epoch that are left; False if it was stopped."""
        config, plan = self.config, self.plan
        loader = self.learner.loader(self.images, self.bad)
        blocks = self.blocks(epoch, self.step - epoch * plan.steps_per_epoch)
        chunks = loader.chunks(blocks, seed=config.seed, epoch=epoch)
        with closing(chunks):
            while self.step < (epoch + 1) * plan.steps_per_epoch:
                start, waited = time.perf_counter(), 0.0
                self.learner.begin()
                for counts in self.rounds:
                    chunk = next(chunks)
                    waited += chunk.wait_seconds
                    x = self.learner.views(chunk, epoch)
                    if self.stopping():
                        self.learner.abandon()
                        return False
                    self.learner.learn(x, chunk.labels, counts, self.step)
                    del x
                lr, momentum = self.rates()
                found = self.learner.finish(self.step + 1, lr, momentum)
                self.step += 1
                seconds = time.perf_counter() - start
                self.seconds += seconds
                speed, share = plan.step_images / seconds, waited / seconds
                if self.team.leads:
                    self.log.add_step(
                        {
                            "step": self.step,
                            "epoch": epoch,
                            "images": self.step * plan.step_images,
                            "lr": lr,
                            "momentum": momentum,
                            **found,
                            "images_per_second": speed,
                            "wait_share": share,
                            "seconds": self.seconds,
                        }
                    )
                bar.set_postfix_str(
                    f"loss {found['loss']:.4g}, {speed:.4g} images/s, "
                    f"waiting {share:.0%}",
                    refresh=False,
                )
                bar.update()
                if time.monotonic() - self.saved_at > 60 * config.engine.save_minutes:
                    self.save()
        return True

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
        rank, size = self.team.rank, config.group_images
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

    def stopping(self) -> bool:
        """Whether any process was asked to stop; all must call this together."""
        values = [float(self.flag.interrupted), float(self.flag.preempted)]
        interrupted, preempted = self.team.total(values)
        self.asked = (interrupted > 0, preempted > 0)
        return any(self.asked)

    def end_epoch(self, epoch: int) -> bool:
        """Measure and note what an epoch brought; False if it was stopped."""
        every = self.config.monitor.every
        due = every and (epoch % every == 0 or epoch == self.plan.epochs)
        known = self.team.leads and self.log.has_epoch(epoch)
        if any(self.team.total([float(known)])):
            return True
        found: dict[str, float] = {}
        if due:
            try:
                found = self.monitor.measure(self.learner)
            except Stopped:
                return False
        (n_damaged,) = self.team.total([float(self.bad.n_skipped)])
        if self.team.leads:
            row = {"epoch": epoch, "step": self.step, "seconds": self.seconds}
            self.log.add_epoch({**row, "damaged_images": int(n_damaged), **found})
        return True

    def save(self, epoch: int | None = None) -> bool:
        """Write a checkpoint; False if it could not be, and the one before is kept."""
        self.saved_at = time.monotonic()
        if not self.team.leads:
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
                "the one before is kept and the training goes on. Make room.",
                *(self.step, error.strerror or error, free),
            )
            return False
        return True
