"""Simulated brains with a known answer: voxels that read out a layer of a network.

Each voxel is a random weighted sum of the layer's mean activity pattern and its leading
principal components over the images, plus noise. The noise is scaled until the
split-half noise ceiling of the simulated subjects has a given value, such as that of
the paper's data.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from versa.fmri.ceilings import noise_ceiling
from versa.fmri.rdm import rdm_from_covariance
from versa.fmri.sectors.sector import Sector
from versa.stats.intervals import fisher_mean
from versa.stats.splits import SplitHalves, split_halves


class SimulatedDesign(NamedTuple):
    """The known answer of a simulated dataset, by sector."""

    n_subjects: int
    layers: Mapping[str, str]  # layer of the network that the voxels read out
    ceilings: Mapping[str, float]  # split-half noise ceiling, as in the paper
    n_voxels: Mapping[str, int]  # per subject
    seed: int  # of weights, noise and voxel positions


N_COMPONENTS = 5  # that a voxel of the embedded datasets reads out

_LAYERS = {"EarlyV": "conv_block_1", "pOTC": "conv_block_4", "aOTC": "fc7"}
_N_VOXELS = {"EarlyV": 1000, "pOTC": 600, "aOTC": 400}

# The embedded datasets. The network is ``alexnet_gn_untrained`` with seed 0.
DESIGNS: Mapping[str, SimulatedDesign] = {
    "simulated-orientation": SimulatedDesign(
        7, _LAYERS, {"EarlyV": 0.90, "pOTC": 0.90, "aOTC": 0.89}, _N_VOXELS, 40
    ),
    "simulated-inanimate": SimulatedDesign(
        10, _LAYERS, {"EarlyV": 0.86, "pOTC": 0.74, "aOTC": 0.60}, _N_VOXELS, 72
    ),
}


def pattern_covariance(gram: np.ndarray, sums: np.ndarray, n_units: int) -> np.ndarray:
    """Inner products of activity patterns (n_images, n_units) less each image's mean.

    From the layer's ``gram = X @ X.T`` and row sums. It is what classic RSA looks at:
    voxels that weight the units at random, with weights that sum to zero, have this
    covariance between images.
    """
    return gram - np.multiply.outer(sums, sums) / n_units


def simulate_responses(
    covariance: np.ndarray,
    *,
    n_subjects: int,
    n_voxels: int,
    ceiling: float | None = None,
    n_components: int | None = N_COMPONENTS,
    seed: int | Sequence[int] = 0,
    splits: SplitHalves | None = None,
) -> list[np.ndarray]:
    """Responses of voxels that read out a layer, with noise of a given ceiling.

    Parameters
    ----------
    covariance : ndarray of shape (n_images, n_images)
        Inner products of the layer's activity patterns, such as ``X @ X.T`` of its
        features X (n_images, n_units).
    n_subjects : int
        Number of subjects; each has weights and noise of its own.
    n_voxels : int
        Number of voxels of each subject.
    ceiling : float, optional
        Mean split-half correlation of the subjects' RDMs to reach; no noise if None.
    n_components : int or None, default=5
        Voxels read out the mean pattern and this many principal components. With all
        of them (None) classic RSA finds the layer exactly; with few, an encoding
        model can learn the voxels from few images.
    seed : int or sequence of int, default=0
        Seed of the weights and the noise.
    splits : SplitHalves, optional
        Half-splits for the ceiling; all of them by default.

    Returns
    -------
    responses : list of ndarray of shape (n_images, n_voxels)
        One per subject, float64 with values that float32 holds exactly; the signal
        has unit variance over images and voxels.

    Raises
    ------
    ValueError
        If the ceiling is not between 0 and that of the noiseless responses, or is
        given for one subject.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((12, 40))
    >>> subjects = simulate_responses(x @ x.T, n_subjects=4, n_voxels=50, ceiling=0.8)
    >>> from versa.fmri.rdm import correlation_rdm
    >>> rdms = [correlation_rdm(voxels) for voxels in subjects]
    >>> round(float(fisher_mean(noise_ceiling(rdms, split_halves(4)))), 4)
    0.8
    """
    rng = np.random.default_rng(seed)
    factor = _factor(covariance, n_components)
    shape = (n_subjects, factor.shape[1], n_voxels)
    signal = factor @ rng.standard_normal(shape)  # (n_subjects, n_images, n_voxels)
    noise = rng.standard_normal(signal.shape)
    scale = 0.0
    if ceiling is not None:
        if n_subjects < 2:
            raise ValueError("ceiling must be None for one subject, who has no halves.")
        splits = split_halves(n_subjects) if splits is None else splits
        scale = _noise_scale(signal, noise, ceiling, splits)
    responses = signal + scale * noise
    return [voxels.astype(np.float32).astype(float) for voxels in responses]


def _factor(covariance: np.ndarray, n_components: int | None) -> np.ndarray:
    """Matrix whose product with random weights has the covariance of the signal."""
    n_images = len(covariance)
    if n_components is None:
        values, vectors = np.linalg.eigh(covariance)
        factor = vectors * np.sqrt(np.maximum(values, 0.0))
    else:
        centre = np.eye(n_images) - 1.0 / n_images
        values, vectors = np.linalg.eigh(centre @ covariance @ centre)
        leading = slice(None, -n_components - 1, -1)  # eigenvalues ascend
        scales = np.sqrt(np.maximum(values[leading], 0.0))
        mean = np.full((n_images, 1), np.sqrt(max(covariance.mean(), 0.0)))
        factor = np.concatenate([mean, vectors[:, leading] * scales], axis=1)
    varying = factor - factor.mean(axis=0)
    return factor / np.sqrt(np.sum(varying**2) / n_images)


def _noise_scale(
    signal: np.ndarray, noise: np.ndarray, ceiling: float, splits: SplitHalves
) -> float:
    """Factor of the noise at which the mean split-half correlation is `ceiling`."""
    from scipy.optimize import brentq

    signal = signal - signal.mean(axis=2, keepdims=True)
    noise = noise - noise.mean(axis=2, keepdims=True)
    both = [signal @ signal.swapaxes(1, 2), noise @ noise.swapaxes(1, 2)]
    cross = signal @ noise.swapaxes(1, 2)
    cross = cross + cross.swapaxes(1, 2)

    def excess(scale: float) -> float:
        covariances = both[0] + scale * cross + scale**2 * both[1]
        rdms = np.stack([rdm_from_covariance(matrix) for matrix in covariances])
        return float(fisher_mean(noise_ceiling(rdms, splits))) - ceiling

    highest = excess(0.0) + ceiling
    if not 0 < ceiling < highest:
        raise ValueError(
            f"ceiling must be between 0 and {highest:.3f}, that of responses without "
            f"noise; got {ceiling}. Use more voxels for a higher one."
        )
    upper = 1.0
    while excess(upper) > 0:
        upper *= 2.0
    return float(brentq(excess, 0.0, upper, xtol=1e-12))


# Where the sectors of the simulated brains are: millimetres in Talairach space, on the
# right; the left is its mirror image. pOTC and aOTC meet at Y = -53.
_CENTRES = {
    "EarlyV": (12.0, -88.0, 0.0),
    "pOTC": (36.0, -65.0, -10.0),
    "aOTC": (38.0, -42.0, -14.0),
}
_Y_RANGE = {"EarlyV": (-120.0, -50.0), "pOTC": (-90.0, -53.0), "aOTC": (-52.9, -10.0)}
_VOXEL = 3.0  # mm
_ORIGIN = (-51.0, -111.0, -27.0)  # center of voxel (0, 0, 0)
_GRID = (35, 28, 17)


def simulated_sectors(
    n_voxels: Mapping[str, int], n_subjects: int, *, seed: int = 0
) -> dict[str, tuple[Sector, ...]]:
    """Masks of EarlyV, pOTC and aOTC per subject, in Talairach space at 3 mm.

    Half of the voxels are in each hemisphere. EarlyV is shifted a little from subject
    to subject, as retinotopy would find it; pOTC ends at Y = -53, where aOTC begins.
    """
    rng = np.random.default_rng(seed)
    shifts = rng.uniform(-3.0, 3.0, (n_subjects, 3))
    affine = np.diag([_VOXEL, _VOXEL, _VOXEL, 1.0])
    affine[:3, 3] = _ORIGIN
    index = np.indices(_GRID).reshape(3, -1)
    position = index * _VOXEL + np.array(_ORIGIN)[:, None]  # (3, n), mm

    def mask(name: str, shift: np.ndarray) -> np.ndarray:
        chosen = np.zeros(position.shape[1], dtype=bool)
        low, high = _Y_RANGE[name]
        for side in (-1.0, 1.0):
            centre = np.array(_CENTRES[name]) * (side, 1.0, 1.0) + shift
            distance = np.sum((position - centre[:, None]) ** 2, axis=0)
            allowed = (position[0] * side > 0) & (position[1] >= low)
            distance[~(allowed & (position[1] <= high))] = np.inf
            nearest = np.argsort(distance, kind="stable")[: n_voxels[name] // 2]
            chosen[nearest] = True
        return chosen.reshape(_GRID)

    return {
        name: tuple(
            Sector(
                name,
                mask(name, shift if name == "EarlyV" else 0 * shift),
                affine,
                "TAL",
            )
            for shift in shifts
        )
        for name in n_voxels
    }
