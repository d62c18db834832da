"""What a training run writes down: CSV tables, TensorBoard, and a figure of both."""

import contextlib
import csv
import logging
import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from versa.cache import atomic_write

logger = logging.getLogger("versa")

STEPS, EPOCHS, CURVE = "steps.csv", "epochs.csv", "curve.png"


class RunTable:
    """A CSV file that grows by rows and can go back to an earlier step."""

    def __init__(self, path: Path, columns: Sequence[str], step: int) -> None:
        self.path = path
        found = _read(path)
        others = [name for name in (found[0] if found else {}) if name not in columns]
        self.columns = [*columns, *others]
        self._complains = True
        kept = [r for r in found if r["step"].isdigit() and int(r["step"]) <= step]
        with atomic_write(path) as temporary:
            temporary.write_text(self._text(kept, header=True), encoding="utf-8")

    def rows(self) -> list[dict[str, str]]:
        """Rows of the file, as text."""
        return _read(self.path)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row. A full disk is reported once and does not end the training."""
        content = self._text([row], header=False).encode()
        size = None
        try:
            with open(self.path, "ab", buffering=0) as file:
                size = file.tell()
                if file.write(content) < len(content):
                    raise OSError("no space left")
        except OSError as error:
            if size is not None:
                with contextlib.suppress(OSError):
                    os.truncate(self.path, size)  # no half of a row
            if self._complains:
                logger.warning("the log %s cannot be written (%s).", self.path, error)
            self._complains = False
        else:
            self._complains = True

    def _text(self, rows: Sequence[Mapping[str, Any]], *, header: bool) -> str:
        text = StringIO()
        writer = csv.DictWriter(text, self.columns, restval="", lineterminator="\n")
        if header:
            writer.writeheader()
        for row in rows:
            writer.writerow({key: _short(value) for key, value in row.items()})
        return text.getvalue()


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        rows: list[dict[str, str]] = list(csv.DictReader(file))
    # whole rows only: of others, values or names are None
    return [r for r in rows if None not in r and None not in r.values()]


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


class RunLog:
    """Tables, TensorBoard and messages of a run."""

    def __init__(
        self, folder: Path, step: int, parts: Sequence[str], measures: Sequence[str]
    ) -> None:
        self.folder = folder
        self._parts = list(parts)
        speed = ["images_per_second", "wait_share"]
        steps = ["step", "epoch", "images", "lr", "momentum", *parts, "gradient_norm"]
        self._steps = RunTable(folder / STEPS, [*steps, *speed, "seconds"], step)
        epochs = ["epoch", "step", *parts, *speed, "damaged_images", *measures]
        self._epochs = RunTable(folder / EPOCHS, [*epochs, "seconds"], step)
        self._writer = _scalar_writer(folder / "tensorboard", step)

    def add_step(self, row: Mapping[str, Any]) -> None:
        """Write down a step."""
        self._steps.add(row)
        for name, value in row.items():
            if name not in ("step", "epoch", "images", "seconds"):
                self._add_scalar(f"train/{name}", value, row["step"])

    def has_epoch(self, epoch: int) -> bool:
        """Whether the end of an epoch was written down."""
        return any(row["epoch"] == str(epoch) for row in self._epochs.rows())

    def add_epoch(self, row: Mapping[str, Any]) -> None:
        """Write down the end of an epoch, with means over its steps."""
        steps = [r for r in self._steps.rows() if r["epoch"] == str(row["epoch"] - 1)]
        means = {}
        if steps:
            for name in (*self._parts, "wait_share"):
                means[name] = sum(float(r[name]) for r in steps) / len(steps)
            spent = sum(1 / float(r["images_per_second"]) for r in steps)
            means["images_per_second"] = len(steps) / spent
        self._epochs.add({**means, **row})
        measured = {name: value for name, value in row.items() if "top" in name}
        for name, value in measured.items():
            self._add_scalar(f"measures/{name}", value, row["step"])
        shown = {"loss": means["loss"], **measured} if means else measured
        if shown:
            text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
            logger.info("after epoch %d: %s", row["epoch"], text)

    def close(self) -> None:
        """Draw the figure, and let TensorBoard's files be whole."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
        if not self._steps.rows():
            return
        try:
            plot_run(self.folder, self.folder / CURVE)
        except (OSError, ValueError) as error:  # a run without a figure is a run, too
            logger.warning("%s cannot be written (%s).", self.folder / CURVE, error)

    def _add_scalar(self, name: str, value: float, step: int) -> None:
        """For TensorBoard, which hands on what its own thread ran into."""
        if self._writer is None:
            return
        try:
            self._writer.add_scalar(name, value, step)
        except OSError as error:
            logger.warning("TensorBoard's files cannot be written (%s).", error)
            self._writer = None


def _scalar_writer(folder: Path, step: int) -> Any:
    """TensorBoard's SummaryWriter, or None if tensorboard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=max(0, step) + 1)


def plot_run(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Figure of a run: loss and its parts, learning rate, the measures per epoch."""
    from matplotlib.figure import Figure  # draws without a screen and without state

    steps, epochs = (_read(Path(folder) / name) for name in (STEPS, EPOCHS))
    if not steps:
        raise ValueError(
            f"the folder of a run must hold {STEPS} with at least one step; "
            f"{folder} does not."
        )
    measures = [
        name
        for name in (epochs[0] if epochs else {})
        if name.endswith(("top1", "top5")) and any(row[name] for row in epochs)
    ]
    figure = Figure(figsize=(7, 7), layout="constrained")
    upper, middle, lower = figure.subplots(3, sharex=True)
    at = [int(row["step"]) for row in steps]
    for name in ("loss", "positive", "negative"):
        if name in steps[0]:
            values = [float(row[name]) for row in steps]
            upper.plot(at, values, label=name, linewidth=1)
    upper.set(ylabel="loss (nats per view)")
    upper.legend(frameon=False)
    middle.plot(at, [float(row["lr"]) for row in steps], linewidth=1)
    middle.set(ylabel="learning rate")
    for name in measures:
        some = [row for row in epochs if row[name]]
        lower.plot(
            [int(row["step"]) for row in some],
            [float(row[name]) for row in some],
            marker="o",
            markersize=3,
            label=name.replace("_", " "),
        )
    lower.set(xlabel="optimizer steps", ylabel="accuracy (%)")
    if measures:
        lower.legend(frameon=False)
    for axes in (upper, middle, lower):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)
