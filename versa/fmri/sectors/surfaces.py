"""Responses on the cortical surface: regions, their vertices, and the cut at y."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.sectors.labels import region_list, whole_number
from versa.fmri.sectors.making import PAPER_CUT, posterior_of
from versa.wording import listing, unknown

logger = logging.getLogger("versa")

_SIDES = ("left", "right")


def region_vertices(
    labels: Any,
    regions: str | int | Iterable[str | int],
    *,
    names: Mapping[Any, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Vertices that have one of some labels.

    Parameters
    ----------
    labels : PolyData, SurfaceImage or mapping of "left" / "right" to array
        A whole number per vertex.
    regions : str, int or iterable of these
        Labels other than 0, which marks vertices without one, or names if `names` are
        given.
    names : mapping, optional
        Names of labels, of both hemispheres alike, or ``{"left": {...}, "right":
        {...}}`` since every GIFTI file has a table of its own.

    Returns
    -------
    vertices : dict of str to ndarray of bool, shape (n_vertices,)
        For "left" and "right", as far as `labels` have them.

    Raises
    ------
    ValueError
        If a region is unknown, 0 or no whole number, or has no vertex.

    Examples
    --------
    >>> labels = {"left": np.array([0, 1, 2]), "right": np.array([2, 2, 0])}
    >>> region_vertices(labels, "V2", names={1: "V1", 2: "V2"})["right"]
    array([ True,  True, False])
    """
    parts = _parts(labels, "labels")
    for side, part in parts.items():
        if part.ndim == 2 and part.shape[1] == 1:
            parts[side] = part = part[:, 0]
        if part.ndim != 1:
            raise ValueError(
                f"labels of the {side} surface must be (n_vertices,); got {part.shape}."
            )
    found = {side: np.zeros(len(part), dtype=bool) for side, part in parts.items()}
    for region in region_list(regions):
        here = {
            side: np.isin(part, _labels_of(region, names, side))
            for side, part in parts.items()
        }
        if not any(part.any() for part in here.values()):
            _refuse_region(region, names)
        for side, part in here.items():
            found[side] |= part
    return found


def surface_responses(
    data: Any,
    labels: Any,
    regions: str | int | Iterable[str | int],
    *,
    names: Mapping[Any, Any] | None = None,
    missing: str = "refuse",
) -> np.ndarray:
    """Responses of the vertices of a region, of both hemispheres side by side.

    Parameters
    ----------
    data : PolyData, SurfaceImage or mapping of "left" / "right" to array
        Per hemisphere (n_vertices,) or (n_vertices, n_images), such as betas.
    labels : PolyData, SurfaceImage or mapping of "left" / "right" to array
        A label per vertex of the same surface.
    regions : str, int or iterable of these
        Labels other than 0, or names if `names` are given.
    names : mapping, optional
        Names of labels, see :func:`region_vertices`.
    missing : {"refuse", "drop"}, default="refuse"
        What to do with vertices that have no finite value in some image, such as those
        of the medial wall. If dropped, columns of other data of the same region may
        belong to other vertices.

    Returns
    -------
    responses : ndarray of shape (n_images, n_vertices)
        First the left, then the right vertices, each in ascending order.

    Raises
    ------
    ValueError
        If data and labels are not of one surface, a region is unknown, or values are
        missing.

    Examples
    --------
    >>> data = {"left": np.array([[1.0, 2], [3, 4]]), "right": np.array([[5.0, 6]])}
    >>> labels = {"left": np.array([0, 7]), "right": np.array([7])}
    >>> surface_responses(data, labels, 7)
    array([[3., 5.],
           [4., 6.]])
    """
    if missing not in ("refuse", "drop"):
        raise ValueError(unknown("missing", missing, ["refuse", "drop"]))
    vertices = region_vertices(labels, regions, names=names)
    parts = _parts(data, "data")
    if set(parts) != set(vertices):
        raise ValueError(
            "data and labels must have the same hemispheres; data have "
            f"{listing(parts)}, labels have {listing(vertices)}."
        )
    columns = []
    for side, chosen in vertices.items():
        part = parts[side]
        if len(part) != len(chosen):
            raise ValueError(
                f"data and labels must be of one surface; on the {side}, data have "
                f"{len(part)} vertices and labels have {len(chosen)}. Resample one to "
                "the surface of the other first."
            )
        columns.append(part.reshape(len(part), -1)[chosen].astype(float).T)
    responses = np.concatenate(columns, axis=1)
    absent = ~np.isfinite(responses).all(axis=0)
    n_absent = int(np.count_nonzero(absent))
    if n_absent and (missing == "refuse" or absent.all()):
        raise ValueError(
            f"data must have a finite value at every vertex of the region; {n_absent} "
            f"of {absent.size} have none in some image (medial wall?). Set their "
            "labels to 0, or pass missing='drop'."
        )
    if n_absent:
        logger.info("%d of %d vertices without data dropped.", n_absent, absent.size)
    return responses[:, ~absent]


def split_vertices_at_y(
    vertices: ArrayLike,
    coordinates: ArrayLike,
    space: str,
    y: float = PAPER_CUT,
    *,
    transform: str = "lancaster",
    closed: str = "posterior",
) -> tuple[np.ndarray, np.ndarray]:
    """Halve vertices of one hemisphere at a coronal plane of Talairach space.

    Parameters
    ----------
    vertices : array-like of bool, shape (n_vertices,)
        The region, such as one side of :func:`region_vertices`.
    coordinates : array-like of shape (n_vertices, 3)
        Coordinates of the mesh in mm. It must be an anatomical surface (white, pial or
        between), never an inflated or spherical one, whose coordinates are not places.
    space : str
        ``"TAL"``, ``"MNI152..."`` or ``"MNI305"``, the space of fsaverage.
    y : float, default=-53.0
        Talairach y of the plane, in mm.
    transform : {"lancaster", "lancaster-spm", "lancaster-fsl", "brett"}
        From MNI to Talairach, see :func:`~versa.fmri.volumes.to_talairach`.
    closed : {"posterior", "anterior"}, default="posterior"
        The half that vertices on the plane (within 1e-4 mm) belong to.

    Returns
    -------
    posterior, anterior : ndarray of bool, shape (n_vertices,)
        Together they are `vertices`.

    Raises
    ------
    ValueError
        If the space is unknown, numbers of vertices differ, or one half is empty.

    Examples
    --------
    >>> places = [[30, -80, 0], [30, -60, 0], [30, -40, 0]]
    >>> split_vertices_at_y([True, False, True], places, "TAL")
    (array([ True, False, False]), array([False, False,  True]))
    """
    chosen = np.asarray(vertices)
    places = np.asarray(coordinates, dtype=float)
    if chosen.dtype != bool or chosen.ndim != 1:
        raise ValueError(
            f"vertices must be boolean, (n_vertices,); got {chosen.dtype} of "
            f"{chosen.shape}."
        )
    if places.shape != (chosen.size, 3):
        raise ValueError(
            f"coordinates must be ({chosen.size}, 3) for {chosen.size} vertices; got "
            f"{places.shape}."
        )
    behind = np.zeros_like(chosen)
    behind[chosen] = posterior_of(
        places[chosen], space, y, transform=transform, closed=closed
    )
    ahead = chosen & ~behind
    if not behind.any() or not ahead.any():
        raise ValueError(
            f"vertices must be on both sides of Talairach y = {y:g}; "
            f"{np.count_nonzero(behind)} are posterior, {np.count_nonzero(ahead)} "
            "anterior. Check the space, and that the mesh is not inflated."
        )
    return behind, ahead


def _parts(data: Any, what: str) -> dict[str, np.ndarray]:
    """Arrays of the hemispheres, left first, of any of the forms that hold them."""
    held = getattr(data, "data", data)  # of a SurfaceImage
    held = getattr(held, "parts", held)  # of a PolyData
    if not isinstance(held, Mapping) or not held or not set(held) <= set(_SIDES):
        got = listing(held) if isinstance(held, Mapping) else type(data).__name__
        raise ValueError(
            f"{what} must be a PolyData, a SurfaceImage, or arrays for left and right; "
            f"got {got or 'nothing'}."
        )
    return {side: np.asarray(held[side]) for side in _SIDES if side in held}


def _labels_of(region: Any, names: Mapping[Any, Any] | None, side: str) -> list[int]:
    """Labels of a region in one hemisphere."""
    if not isinstance(region, str):
        number = whole_number(region)
        if not number:
            raise ValueError(
                "regions must be names, or whole numbers other than 0, which marks "
                f"vertices without a label; got {region!r}."
            )
        return [number]
    if names is None:
        raise ValueError(
            f"region {region!r} must have a label: pass names= (of "
            "versa.fmri.volumes.surface_label_names), or labels instead of names."
        )
    table = names.get(side, {}) if set(names) & set(_SIDES) else names
    return [int(label) for label, text in table.items() if text == region]


def _refuse_region(region: Any, names: Mapping[Any, Any] | None) -> None:
    """Say that a region has no vertex, and why."""
    tables = [names or {}]
    if names and set(names) & set(_SIDES):
        tables = list(names.values())
    texts = list(dict.fromkeys(text for table in tables for text in table.values()))
    if isinstance(region, str) and region not in texts:
        raise ValueError(unknown("region", region, texts))
    raise ValueError(f"region {region!r} must have vertices; no label is of it.")
