"""What a training run writes down: two CSV tables, TensorBoard, and a figure."""

import contextlib
import csv
import logging
import os
import time
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from versa.cache import atomic_write

logger = logging.getLogger("versa")

_COLLAPSE = 20.0  # times the negative part of the first step
STEPS, EPOCHS, CURVE = "steps.csv", "epochs.csv", "curve.png"


class Doing:
    """What a run is doing now, for people who read its output."""

    def __init__(self) -> None:
        self.shown = False  # whether a bar shows the steps
        self._what, self._note, self._bar = "beginning", "", False
        self._since = time.monotonic()

    def begin(self, what: str, *, bar: bool = False) -> None:
        """Something else is begun; with `bar` a bar shows it, where there is one."""
        self._what, self._note, self._bar = what, "", bar
        self._since = time.monotonic()

    def note(self, text: str) -> None:
        """How far it is."""
        self._note = text

    def text(self) -> str:
        """A line for the log; empty if a bar shows it."""
        if self._bar and self.shown:
            return ""
        seconds = time.monotonic() - self._since
        return f"{self._what}: {self._note or f'for {seconds:.0f} s'}"


class RunLog:
    """Tables, TensorBoard and messages of a run.

    What was written for steps after `step` is dropped, because a run that resumes makes
    them again; -1 drops all. Nothing that cannot be written ends the training.
    """

    def __init__(
        self, folder: Path, step: int, parts: Sequence[str], measures: Sequence[str]
    ) -> None:
        self.folder = folder
        self._parts = list(parts)  # of the loss
        self._complained: set[Path] = set()
        speed = ["images_per_second", "wait_share"]
        columns = {
            STEPS: [
                *("step", "epoch", "images", "lr", "momentum"),
                *(*parts, "gradient_norm", *speed, "seconds"),
            ],
            EPOCHS: [
                *("epoch", "step", *parts, *speed),
                *("damaged_images", *measures, "seconds"),
            ],
        }
        self._columns = {
            name: _go_back(folder / name, names, step)
            for name, names in columns.items()
        }
        self._writer = _summary_writer(folder / "tensorboard", step)
        negative = _negative(folder)
        self._start = float(negative.iloc[0]) if len(negative) else None
        self._collapsed = collapse_step(folder) is not None

    def add_step(self, row: Mapping[str, Any]) -> None:
        """Write down a step: values of the columns of ``steps.csv``."""
        self._add(STEPS, row)
        if self._start is None:
            self._start = row.get("negative")
        elif not self._collapsed and row.get("negative", 0) > _COLLAPSE * self._start:
            self._collapsed = True
            logger.warning(
                "the embedding may have collapsed in step %d: the negative part of the "
                "loss is %.3g, %.0f times that of the first step; see embedding_sd and "
                "effective_rank in %s. Try a lower optimizer.lr in another folder.",
                *(row["step"], row["negative"], row["negative"] / self._start),
                self.folder / STEPS,
            )
        for name, value in row.items():
            if name not in ("step", "epoch", "images", "seconds"):
                self._add_scalar(f"train/{name}", value, row["step"])

    def has_epoch(self, epoch: int) -> bool:
        """Whether the end of an epoch was written down."""
        return str(epoch) in set(_read(self.folder / EPOCHS)["epoch"])

    def add_epoch(self, row: Mapping[str, Any]) -> None:
        """Write down the end of an epoch, with means over its steps."""
        steps = _read(self.folder / STEPS)
        steps = steps[steps["epoch"] == str(row["epoch"] - 1)]
        means: dict[str, float] = {}
        if len(steps):
            numbers = steps[[*self._parts, "wait_share"]]
            means = dict(numbers.apply(pd.to_numeric, errors="coerce").mean())
            rates = steps["images_per_second"].astype(float)
            means["images_per_second"] = len(steps) / (1 / rates).sum()
        self._add(EPOCHS, {**means, **row})
        measured = {name: value for name, value in row.items() if "top" in name}
        for name, value in measured.items():
            self._add_scalar(f"measures/{name}", value, row["step"])
        shown = {"loss": means["loss"], **measured} if means else measured
        if shown:
            text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
            logger.info("after epoch %d: %s", row["epoch"], text)

    def close(self) -> None:
        """Draw the figure, and complete TensorBoard's files."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
        if not len(_read(self.folder / STEPS)):
            return
        try:
            plot_run(self.folder, self.folder / CURVE)
        except (OSError, ValueError) as error:  # a run without a figure is a run, too
            logger.warning("%s cannot be written (%s).", self.folder / CURVE, error)

    def _add(self, name: str, row: Mapping[str, Any]) -> None:
        """Append a row; on a full disk there is a warning, once, and no half of it."""
        path, size = self.folder / name, None
        text = StringIO()
        writer = csv.DictWriter(text, self._columns[name], lineterminator="\n")
        writer.writerow({key: _short(value) for key, value in row.items()})
        content = text.getvalue().encode()
        try:
            with open(path, "ab", buffering=0) as file:
                size = file.tell()
                if file.write(content) < len(content):
                    raise OSError("no space left")
        except OSError as error:
            if size is not None:
                with contextlib.suppress(OSError):
                    os.truncate(path, size)
            if path not in self._complained:
                logger.warning("the log %s cannot be written (%s).", path, error)
            self._complained.add(path)

    def _add_scalar(self, name: str, value: float, step: int) -> None:
        """For TensorBoard, which hands on what its own thread ran into."""
        if self._writer is None:
            return
        try:
            self._writer.add_scalar(name, value, step)
        except OSError as error:
            logger.warning("TensorBoard's files cannot be written (%s).", error)
            self._writer = None


def _go_back(path: Path, columns: Sequence[str], step: int) -> list[str]:
    """Drop rows of later steps; the columns, those of an existing file kept behind."""
    found = _read(path)
    names = [*columns, *(str(name) for name in found if name not in columns)]
    if len(found):
        found = found[pd.to_numeric(found["step"], errors="coerce") <= step]
    with atomic_write(path) as temporary:
        found.reindex(columns=names).to_csv(temporary, index=False, lineterminator="\n")
    return names


def _read(path: Path) -> pd.DataFrame:
    """Whole rows of a table, as text; what a killed run left of one is dropped."""
    if not path.is_file():
        return pd.DataFrame(columns=["epoch", "step"])
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.reader(file))
    header = rows[0] if rows else []
    whole = [row for row in rows[1:] if len(row) == len(header)]
    return pd.DataFrame(whole, columns=header)


def _negative(folder: Path) -> pd.Series:
    """Negative part of the loss, by step; empty where there is none."""
    table = _read(folder / STEPS)
    if "negative" not in table:
        return pd.Series(dtype=float)
    table = table.apply(pd.to_numeric, errors="coerce")
    return table.set_index("step")["negative"].dropna()


def collapse_step(folder: Path, last: int | None = None) -> int | None:
    """The first step, up to `last`, whose negative part shows a collapse."""
    negative = _negative(folder)
    large = negative[negative > _COLLAPSE * negative.iloc[:1].sum()].index
    steps = [int(step) for step in large if last is None or step <= last]
    return steps[0] if steps else None


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _summary_writer(folder: Path, step: int) -> Any:
    """TensorBoard's SummaryWriter, or None if tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=max(0, step) + 1)


def plot_run(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Figure of a run: loss and its parts, learning rate, the measures per epoch."""
    from matplotlib.figure import Figure  # draws without a screen and without state

    steps, epochs = (
        _read(Path(folder) / name).apply(pd.to_numeric, errors="coerce")
        for name in (STEPS, EPOCHS)
    )
    if not len(steps):
        raise ValueError(
            f"the folder of a run must hold {STEPS} with at least one step; "
            f"{folder} does not."
        )
    figure = Figure(figsize=(7, 7), layout="constrained")
    upper, middle, lower = figure.subplots(3, sharex=True)
    for name in ("loss", "positive", "negative"):
        if name in steps:
            upper.plot(steps["step"], steps[name], label=name, linewidth=1)
    upper.set(ylabel="loss (nats per view)")
    upper.legend(frameon=False)
    middle.plot(steps["step"], steps["lr"], linewidth=1)
    middle.set(ylabel="learning rate")
    measures = [
        name
        for name in epochs
        if name.endswith(("top1", "top5")) and epochs[name].notna().any()
    ]
    for name in measures:
        some = epochs[epochs[name].notna()]
        label = name.replace("_", " ")
        lower.plot(some["step"], some[name], marker="o", markersize=3, label=label)
    lower.set(xlabel="optimizer steps", ylabel="accuracy (%)")
    if measures:
        lower.legend(frameon=False)
    for axes in (upper, middle, lower):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)
