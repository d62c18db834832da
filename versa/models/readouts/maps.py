"""Maps of images in two dimensions, such as the paper's Fig. 1b."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from versa.cache import atomic_write
from versa.wording import listing

_LISTED = 20  # classes with names in a figure


def embedding_map(
    features: ArrayLike | torch.Tensor, *, seed: int = 0, perplexity: float = 30.0
) -> np.ndarray:
    """Map of images in two dimensions, neighbours near each other (t-SNE).

    Parameters
    ----------
    features : array-like or Tensor of shape (n_images, ...)
        Such as the embedding of the paper's Fig. 1b. They are flattened, not scaled.
    seed : int
    perplexity : float
        Neighbours that count, roughly; below n_images.

    Returns
    -------
    places : ndarray of shape (n_images, 2)
        float32, in arbitrary units and orientation.

    Raises
    ------
    ValueError
        If a feature is not finite, or `perplexity` is not below n_images.

    References
    ----------
    van der Maaten & Hinton (2008), https://jmlr.org/papers/v9/vandermaaten08a.html

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(10, 4))
    >>> embedding_map(x, perplexity=3).shape
    (10, 2)
    """
    from sklearn.manifold import TSNE

    if isinstance(features, torch.Tensor):
        features = features.detach().cpu().numpy()
    x = np.asarray(features, dtype=float)
    x = x.reshape(len(x), -1)
    if not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        raise ValueError(f"features must be finite; rows {listing(bad)} are not.")
    if not 0 < perplexity < len(x):
        raise ValueError(
            f"perplexity must be above 0 and below the number of images, {len(x)}; got "
            f"{perplexity}."
        )
    fit = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    return fit.fit_transform(x).astype(np.float32)


def plot_map(
    places: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    path: str | os.PathLike[str],
) -> None:
    """Figure of an `embedding_map`, one colour per class."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    spots, of = np.asarray(places), np.asarray(labels)
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    few = len(classes) <= _LISTED
    colours = colormaps["tab20" if few else "hsv"]
    for k, name in enumerate(classes):
        shade = colours(k if few else k / len(classes))
        x, y = spots[of == k].T
        axes.scatter(x, y, s=8, color=shade, linewidths=0, label=name)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    if few:
        figure.legend(loc="outside right upper", frameon=False, markerscale=2)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)
