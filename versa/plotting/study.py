"""The pictures of a dataset folder: designs, reliability, sectors."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from versa.fmri.betas.glm import GLMSettings, design_matrix
from versa.fmri.betas.runs import find_runs
from versa.fmri.dataset.tables import read_participants
from versa.fmri.sectors.making import PAPER_CUT
from versa.fmri.sectors.sector import Sector
from versa.fmri.study.files import read_subject_grid, read_subject_map
from versa.fmri.volumes.nifti import read_grid, read_image
from versa.plotting.brains import plot_reliability, plot_sectors
from versa.plotting.designs import plot_design
from versa.plotting.figures import save_figure
from versa.plotting.templates import plot_glass, plot_surface, write_view

__all__ = ["draw_betas", "draw_sectors"]

logger = logging.getLogger("versa")


def draw_betas(
    folder: Path, source: str | Path, settings: GLMSettings, options: Mapping[str, Any]
) -> list[Path]:
    """Draw, for each subject, the design of its first run and its reliability.

    Parameters
    ----------
    folder : Path
        The dataset folder; pictures go to ``figures`` in it.
    source : path-like
        The BIDS folder.
    settings : GLMSettings
        As the betas were made.
    options : mapping
        Options of :func:`versa.fmri.betas.find_runs`.

    Returns
    -------
    paths : list of Path
        The pictures.
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
    """Draw the sectors of each subject.

    Parameters
    ----------
    folder : path-like
        The dataset folder; pictures go to ``figures`` in it.
    sectors : mapping of str to mapping of str to Sector
        For each subject its sectors by name.
    y : float, default=-53.0
        Talairach y in mm of the cut.
    transform : str, default="lancaster"
        From MNI to Talairach.
    background : str, optional
        Path of an anatomical image, with ``{subject}`` for the label.

    Returns
    -------
    paths : list of Path
        The pictures; none for voxels without known place.
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
