"""Figures of a dataset folder: design matrices, reliability, sectors."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.fmri.betas.glm import GLMSettings, design_matrix
from versa.fmri.betas.runs import find_runs
from versa.fmri.dataset.tables import read_participants
from versa.fmri.sectors.making import PAPER_CUT
from versa.fmri.sectors.sector import Sector
from versa.fmri.study.files import read_subject_grid, read_subject_map
from versa.fmri.volumes.nifti import read_grid, read_image
from versa.plotting.brains import (
    plot_glass,
    plot_reliability,
    plot_sectors,
    plot_surface,
    write_view,
)
from versa.plotting.style import save_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


logger = logging.getLogger("versa")


def plot_design(
    design: "pd.DataFrame", *, title: str | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw the design matrix of a run.

    Parameters
    ----------
    design : DataFrame of shape (n_scans, n_regressors)
        As nilearn's ``make_first_level_design_matrix`` makes it.
    title : str, optional
        Title of the figure.
    ax : Axes, optional
        Where to draw; by default a new figure not registered with pyplot.

    Returns
    -------
    ax : Axes
        Scans from top to bottom in s, one column per regressor, each scaled by its
        largest absolute value.

    Examples
    --------
    >>> import pandas as pd
    >>> design = pd.DataFrame({"cup": [0.0, 2, 1], "constant": 1.0}, index=[0, 2, 4])
    >>> [label.get_text() for label in plot_design(design).get_xticklabels()]
    ['cup', 'constant']
    """
    from matplotlib.figure import Figure

    values = design.to_numpy(dtype=float)
    largest = np.abs(values).max(axis=0)
    scaled = values / np.where(largest > 0, largest, 1)
    n_scans, n_regressors = values.shape
    if ax is None:
        figure = Figure(figsize=(1.6 + 0.22 * n_regressors, 5.0), layout="constrained")
        ax = figure.add_subplot()
    times = design.index.to_numpy(dtype=float)
    step = (times[-1] - times[0]) / max(1, n_scans - 1)
    ax.imshow(
        scaled,
        cmap="RdGy_r",  # red above 0 and grey below: told apart without colour vision
        vmin=-1,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
        extent=(-0.5, n_regressors - 0.5, times[-1] + step / 2, times[0] - step / 2),
    )
    ax.set_xticks(range(n_regressors), labels=list(design.columns), rotation=90)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_ylabel("time (s)")
    if title:
        ax.set_title(title)
    return ax


def draw_betas(
    folder: Path, source: str | Path, settings: GLMSettings, options: Mapping[str, Any]
) -> list[Path]:
    """Draw, for each subject, the design of its first run and its reliability.

    Pictures go to `folder` / figures; `source` is the BIDS folder, `settings` and the
    `options` of find_runs those with which the betas were made.
    """
    drawn = []
    for label in read_participants(folder):
        stem = folder / "figures" / f"sub-{label}"
        run = find_runs(source, label, **options)[0]
        shape, _ = read_grid(run.bold)
        design = design_matrix(run, shape[3], settings)
        drawn.append(
            save_figure(
                plot_design(design, title=run.name.partition("_bold")[0]),
                stem.with_name(f"{stem.name}_design.png"),
            )
        )
        reliability = read_subject_map(folder, label, "reliability_statmap")
        if reliability is None:
            continue
        _, affine, space = read_subject_grid(folder, label)
        drawn.append(
            save_figure(
                plot_reliability(
                    reliability, affine, space=space, title=f"subject {label}"
                ),
                stem.with_name(f"{stem.name}_reliability.png"),
            )
        )
        if space.startswith("MNI152"):
            drawn += _on_templates(reliability, affine, space, stem, label)
    return drawn


def _on_templates(
    reliability: np.ndarray, affine: np.ndarray, space: str, stem: Path, label: str
) -> list[Path]:
    """The map on the cortex from below, and as a page to turn."""
    ax = plot_surface(reliability, affine, space=space, title=f"subject {label}")
    surface = stem.with_name(f"{stem.name}_surface.png")
    page = stem.with_name(f"{stem.name}_reliability.html")
    title = f"odd/even reliability of subject {label}"
    write_view(page, reliability, affine, space=space, threshold=0.05, title=title)
    return [save_figure(ax, surface), page]


def draw_sectors(
    folder: str | Path,
    sectors: Mapping[str, Mapping[str, Sector]],
    *,
    y: float = PAPER_CUT,
    transform: str = "lancaster",
    background: str | None = None,
) -> list[Path]:
    """Draw the sectors of each subject to `folder` / figures.

    `background` is the path of an anatomical image, with ``{subject}`` for the label;
    voxels without known place are not drawn.
    """
    drawn = []
    for label, own in sectors.items():
        if any(sector.space == "none" for sector in own.values()):
            logger.warning(
                "subject %s: voxels without known place cannot be drawn.", label
            )
            continue
        behind = None
        if background is not None:
            values, affine = read_image(Path(background.replace("{subject}", label)))
            behind = np.asarray(values, dtype=float), affine
        ax = plot_sectors(
            own, background=behind, y=y, transform=transform, title=f"subject {label}"
        )
        path = Path(folder) / "figures" / f"sub-{label}_sectors.png"
        drawn.append(save_figure(ax, path))
        if all(sector.space.startswith("MNI152") for sector in own.values()):
            glass = plot_glass(own, title=f"subject {label}")
            place = path.with_name(f"sub-{label}_glass.png")
            drawn.append(save_figure(glass, place))
    return drawn
