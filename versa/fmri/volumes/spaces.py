"""Coordinate spaces: their names, and the published transforms between them."""

import re

import numpy as np
from numpy.typing import ArrayLike

from versa.wording import unknown

FORM_SPACES = {3: "TAL", 4: "MNI152"}  # codes of the NIfTI-1 standard
TRANSFORMS = ("lancaster", "lancaster-spm", "lancaster-fsl", "brett")

# Rows of "icbm2tal", MNI152 to Talairach: https://doi.org/10.1002/hbm.20345
_LANCASTER = {
    "lancaster": (  # both programs pooled, for any other normalisation
        (0.9357, 0.0029, -0.0072, -1.0423),
        (-0.0065, 0.9396, -0.0726, -1.3940),
        (0.0103, 0.0752, 0.8967, 3.6475),
    ),
    "lancaster-spm": (
        (0.9254, 0.0024, -0.0118, -1.0207),
        (-0.0048, 0.9316, -0.0871, -1.7667),
        (0.0152, 0.0883, 0.8924, 4.0926),
    ),
    "lancaster-fsl": (
        (0.9464, 0.0034, -0.0026, -1.0680),
        (-0.0083, 0.9479, -0.0580, -1.0239),
        (0.0053, 0.0617, 0.9010, 3.1883),
    ),
}
# Brett scales first, differently below z = 0, and pitches the result.
_BRETT_PITCH = np.array([[1.0, 0.0, 0.0], [0.0, 0.9988, 0.05], [0.0, -0.05, 0.9988]])
_BRETT_ABOVE = np.array([0.99, 0.97, 0.92])
_BRETT_BELOW = np.array([0.99, 0.97, 0.84])
# https://surfer.nmr.mgh.harvard.edu/fswiki/CoordinateSystems, use case 8
_MNI305_TO_MNI152 = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
    ]
)

# A side in a name: a word of its own (lh, left, L), or told by capitals (LHOTC,
# otcLeft, FFAleft, hemiL).
_WORDS = (
    r"(?<![A-Za-z])(?:lh|rh|left|right|LEFT|RIGHT)(?![a-z])"
    r"|(?<![A-Z])(?:LH|RH|Lh|Rh|Left|Right)(?![a-z])"
    r"|(?<=[A-Z]{2})(?:lh|rh|left|right)(?![A-Za-z])"
    r"|(?<=[hH]emi)[lLrR](?![a-z])"
    r"|(?<![A-Za-z])(?:[lLrR]|left|right|Left|Right)(?=[hH]em)"
    r"|(?<=[A-Z])(?:LH|RH)(?![A-Za-z])"
)
_SIDE = re.compile(rf"{_WORDS}|(?<![A-Za-z])[lLrR](?![A-Za-z])")
_SIDE_OF_FILE = re.compile(rf"{_WORDS}|(?<![A-Za-z0-9])[LR](?![A-Za-z0-9])")


def stated_side(name: str, *, of_file: bool = False) -> str | None:
    """Hemisphere that a name says, "left" or "right"; None if none, or both.

    In the name of a file a small letter alone is no side.

    >>> stated_side("LHLOC"), stated_side("left-right"), stated_side("lingual")
    ('left', None, None)
    >>> stated_side("FFALH"), stated_side("V1_Rhemi")
    ('left', 'right')
    >>> stated_side("sub-01_hemi-R_stat-r_map.gii", of_file=True)
    'right'
    """
    found = (_SIDE_OF_FILE if of_file else _SIDE).findall(name)
    sides = {"left" if one[0] in "lL" else "right" for one in found}
    return sides.pop() if len(sides) == 1 else None


def check_space(space: str) -> None:
    """Refuse a space that is not among those of :class:`~versa.Sector`."""
    known = ("TAL", "individual", "none")
    if isinstance(space, str) and (space in known or space.startswith("MNI152")):
        return
    raise ValueError(
        "space must be TAL, MNI152... (such as MNI152NLin2009cAsym), individual or "
        f"none; got {space!r}."
    )


def has_talairach(space: str) -> bool:
    """Whether places of a sector's space are known in Talairach space."""
    return space == "TAL" or space.startswith("MNI152")


def to_talairach(
    coordinates: ArrayLike, space: str, *, transform: str = "lancaster"
) -> np.ndarray:
    """Talairach coordinates of points of a standard space.

    Parameters
    ----------
    coordinates : array-like of shape (n_points, 3)
        In mm: x grows to the right, y to the front, z upwards.
    space : str
        Where they are: ``"TAL"`` (they are returned as they are), ``"MNI152..."``
        with any variant, or ``"MNI305"`` (fsaverage), which goes through MNI152.
    transform : {"lancaster", "lancaster-spm", "lancaster-fsl", "brett"}
        How MNI152 goes to Talairach: Lancaster's affine for brains normalised by any
        program, by SPM, or by FSL; or Brett's, which differs above and below z = 0.

    Returns
    -------
    talairach : ndarray of float64, shape (n_points, 3)
        In mm. Talairach space as BrainVoyager makes it, box by box along the AC-PC
        line of each brain, is not affine in MNI space: expect errors of 2 to 4 mm.

    Raises
    ------
    ValueError
        If the space has no transform to Talairach, the transform is unknown, or the
        coordinates are not finite numbers of shape (n_points, 3).

    References
    ----------
    Lancaster et al. (2007), https://doi.org/10.1002/hbm.20345

    Brett, Johnsrude & Owen (2002), https://doi.org/10.1038/nrn756, with the matrices of
    the author's ``mni2tal``.

    Examples
    --------
    >>> to_talairach([[35, -56, -16]], "MNI152NLin2009cAsym").round(1)
    array([[ 31.7, -53.1, -14.6]])
    """
    points = _checked(coordinates)
    _check_transform(transform)
    if space == "TAL":
        return points
    if space == "MNI305":
        points = _affine(points, _MNI305_TO_MNI152)
    elif not (isinstance(space, str) and space.startswith("MNI152")):
        raise ValueError(
            "coordinates must be in TAL, MNI152... or MNI305 to have a place in "
            f"Talairach space; got {space!r}. Normalise the images to one of these "
            "spaces first, or name the space they are in."
        )
    if transform == "brett":
        scale = np.where(points[:, 2:] >= 0, _BRETT_ABOVE, _BRETT_BELOW)
        return (points * scale) @ _BRETT_PITCH.T
    return _affine(points, np.array(_LANCASTER[transform]))


def to_mni(coordinates: ArrayLike, *, transform: str = "lancaster") -> np.ndarray:
    """MNI152 coordinates of points of Talairach space, the inverse of `to_talairach`.

    Parameters
    ----------
    coordinates : array-like of shape (n_points, 3)
        In mm: x grows to the right, y to the front, z upwards.
    transform : {"lancaster", "lancaster-spm", "lancaster-fsl", "brett"}
        Same as in :func:`to_talairach`.

    Returns
    -------
    mni : ndarray of float64, shape (n_points, 3)
        In mm. With "brett" z in MNI space decides between the two scales, as in
        :func:`to_talairach`; the author's own ``tal2mni`` uses z in Talairach space,
        which is not an exact inverse near the seam.

    Raises
    ------
    ValueError
        If the transform is unknown, or the coordinates are not finite numbers of shape
        (n_points, 3).

    References
    ----------
    Lancaster et al. (2007), https://doi.org/10.1002/hbm.20345

    Examples
    --------
    The plane y = -53 is tilted in MNI space:

    >>> to_mni([[35, -53, -12], [35, -53, 12]])[:, 1].round(1)
    array([-55.7, -53.6])
    """
    points = _checked(coordinates)
    _check_transform(transform)
    if transform == "brett":
        scaled = np.linalg.solve(_BRETT_PITCH, points.T).T
        return scaled / np.where(scaled[:, 2:] >= 0, _BRETT_ABOVE, _BRETT_BELOW)
    matrix = np.array(_LANCASTER[transform])
    return np.linalg.solve(matrix[:, :3], (points - matrix[:, 3]).T).T


def _affine(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply the upper three rows of an affine."""
    return points @ matrix[:, :3].T + matrix[:, 3]


def _checked(coordinates: ArrayLike) -> np.ndarray:
    """Coordinates as a float64 array of their own, or an error."""
    points = np.array(coordinates, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"coordinates must be (n_points, 3); got {points.shape}.")
    if not np.isfinite(points).all():
        n_bad = int((~np.isfinite(points)).any(axis=1).sum())
        raise ValueError(
            f"coordinates must be finite; {n_bad} of {len(points)} are not."
        )
    return points


def _check_transform(transform: str) -> None:
    if transform not in TRANSFORMS:
        raise ValueError(unknown("transform", transform, TRANSFORMS))
