"""Accuracy of the nearest neighbours among the training images."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn import functional

from versa.models.passes import computing_device, on_device, resolve_layers
from versa.models.readouts.images import (
    Transform,
    accuracy,
    class_ranks,
    labelled_images,
    plain_features,
    validation_transform,
)
from versa.models.vision import VisionModel
from versa.progress import counted
from versa.wording import listing

Features = torch.Tensor | np.ndarray

_GALLERY_ROWS = 4096  # compared with the queries at a time
_GALLERY_BYTES = 2**28
_SIMILARITIES = 2**25  # numbers in one product of queries and gallery
_VOTERS = 1024  # queries whose votes are counted at a time


def readout_knn(
    model: VisionModel,
    train: Any,
    val: Any,
    layers: Sequence[str],
    *,
    k: int = 200,
    temperature: float = 0.07,
    transform: Transform | None = None,
    batch_size: int = 128,
    device: str | torch.device | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> dict[str, dict[str, float]]:
    """Accuracy of the nearest neighbours among the training images, layer by layer.

    The protocol of Konkle and Alvarez (2022): one centre crop of every image, all
    training images as the gallery. The features of the gallery pass by and are
    dropped; those of the validation images stay on the device, 4 bytes per unit and
    image.

    Parameters
    ----------
    model : VisionModel
    train, val : path, tuple or LabelledImages
        As for `labelled_images`: ``imagenet/train`` and ``imagenet/val``, say.
    layers : list of str
        Dotted names, all read out in the same pass: for the networks of the paper
        ``["l2norm"]`` or ``["fc7"]``.
    k, temperature : int, float
        As for `knn_accuracy`.
    transform : callable, optional
        From an RGB image to a tensor; by default ``model.validation``.
    batch_size : int
        Images in one pass.
    device : str or torch.device, optional
        Where to compute; by default where the module is.
    workers : int, optional
        Threads that read images; by default one per core, at most 16.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    accuracies : dict of str to dict
        For each layer ``top1`` and ``top5`` as `knn_accuracy` gives them.

    Raises
    ------
    ValueError
        If an image is damaged or a feature is not finite (both are named), k exceeds
        the gallery, val has a class that train has not, or the transform is not known.

    References
    ----------
    Konkle & Alvarez (2022), https://doi.org/10.1038/s41467-022-28091-4
    """
    gallery, queries = labelled_images(train), labelled_images(val)
    truth = queries.labels_among(gallery.classes)
    _check_vote(k, temperature)
    if k > len(gallery):
        raise ValueError(_too_few(k, len(gallery)))
    place = computing_device(model.module, device)
    names = resolve_layers(model, layers)
    passing = validation_transform(model, transform), batch_size, place, workers
    total = len(queries) + len(gallery)
    with (
        on_device(model.module, place),
        counted(total, model.name, "image", show=progress) as bar,
    ):
        rows: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        for numbers, outputs in plain_features(model, names, queries, *passing):
            for name in names:
                rows[name].append(_unit_rows(outputs[name]))
            bar.update(len(numbers))
        near = {name: _Neighbours(torch.cat(rows.pop(name)), k) for name in names}
        for numbers, outputs in plain_features(model, names, gallery, *passing):
            labels = torch.from_numpy(gallery.labels[numbers])
            for name in names:
                near[name].add(_unit_rows(outputs[name]), labels)
            bar.update(len(numbers))
    n_classes = len(gallery.classes)
    return {
        name: accuracy(near[name].ranks(truth, n_classes, temperature), n_classes)
        for name in names
    }


def knn_accuracy(
    gallery: Features | Iterable[tuple[Features, ArrayLike]],
    gallery_labels: ArrayLike | None,
    queries: Features,
    query_labels: ArrayLike,
    *,
    k: int = 200,
    temperature: float = 0.07,
    n_classes: int | None = None,
    chunk: int = _GALLERY_ROWS,
) -> dict[str, float]:
    """Accuracy of a weighted vote of the k nearest neighbours.

    Features ``x`` are divided by their length along axis 1, then flattened, as the
    authors do: in a convolutional layer every position is normalised over its channels.
    The similarity is the dot product ``s``, and a class scores the sum of
    ``exp(s / temperature)`` over its members among the k most similar of the gallery.
    Among equal scores the class of lower index is ahead; a class without a vote is
    never a hit.

    Parameters
    ----------
    gallery : array or Tensor of shape (n_gallery, ...), or iterable of pairs
        Features that vote; or chunks (features, labels) such as `stream_features`
        gives, which are dropped once they were compared.
    gallery_labels : array-like of shape (n_gallery,), or None for chunks
        Indices of classes.
    queries : array or Tensor of shape (n_queries, ...)
        Features to classify; the gallery is moved to their device.
    query_labels : array-like of shape (n_queries,)
    k : int
        Neighbours, at most n_gallery.
    temperature : float
    n_classes : int, optional
        By default the largest label plus one.
    chunk : int
        Rows of the gallery compared at a time; changes nothing but speed and memory.

    Returns
    -------
    accuracy : dict of str to float
        ``top1`` and ``top5`` in percent of the queries; ``top5`` is NaN with fewer
        than 5 classes, where it would be 100 for any features.

    Raises
    ------
    ValueError
        If k exceeds the gallery, shapes disagree, or a feature is not finite.

    References
    ----------
    Wu et al. (2018), https://doi.org/10.1109/CVPR.2018.00393

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> knn_accuracy(x, [0, 0, 1], np.array([[1.0, 0.2], [0.1, 1.0]]), [0, 0], k=2)
    {'top1': 50.0, 'top5': nan}
    """
    _check_vote(k, temperature)
    truth = _label_tensor(query_labels)
    rows = _unit_rows(torch.as_tensor(queries))
    if truth.shape != (len(rows),) or not len(rows):
        raise ValueError(
            "query_labels must hold one per query, and at least one; got shape "
            f"{tuple(truth.shape)} for {len(rows)} queries."
        )
    near = _Neighbours(rows, k, chunk)
    pairs: Iterable[tuple[Features, ArrayLike]]
    if gallery_labels is not None:
        pairs = [(gallery, gallery_labels)]  # type: ignore[list-item]
    else:
        pairs = gallery  # type: ignore[assignment]
    for features, labels in pairs:
        near.add(_unit_rows(torch.as_tensor(features)), _label_tensor(labels))
    if near.n_gallery < k:
        raise ValueError(_too_few(k, near.n_gallery))
    highest = max(near.highest, int(truth.max())) + 1
    n_classes = highest if n_classes is None else n_classes
    if min(near.lowest, int(truth.min())) < 0 or highest > n_classes:
        raise ValueError(
            f"labels must be from 0 to n_classes - 1 = {n_classes - 1}; got "
            f"{min(near.lowest, int(truth.min()))} to {highest - 1}."
        )
    return accuracy(near.ranks(truth, n_classes, temperature), n_classes)


class _Neighbours:
    """The k most similar rows of a gallery that passes by."""

    def __init__(
        self, queries: torch.Tensor, k: int, chunk: int = _GALLERY_ROWS
    ) -> None:
        if chunk < 1:
            raise ValueError(f"chunk must be 1 or more; got {chunk}.")
        self.queries, self.k, self.chunk = queries, k, chunk
        shape = (len(queries), k)
        self.similarities = queries.new_full(shape, -torch.inf)
        self.labels = torch.zeros(shape, dtype=torch.int64, device=queries.device)
        self.waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.n_waiting = self.n_gallery = self.highest = self.lowest = 0

    def add(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Compare some rows of unit length, now or together with the next ones."""
        n_units = self.queries.shape[1]
        if features.shape != (len(labels), n_units) or labels.ndim != 1:
            raise ValueError(
                "the gallery must have one label per row and the units of the queries, "
                f"{n_units}; got features {tuple(features.shape)} and labels "
                f"{tuple(labels.shape)}."
            )
        if not len(labels):
            return
        self.n_gallery += len(labels)
        self.highest = max(self.highest, int(labels.max()))
        self.lowest = min(self.lowest, int(labels.min()))
        features = features.to(self.queries)
        self.waiting.append((features, labels.to(self.queries.device)))
        self.n_waiting += len(labels)
        row_bytes = n_units * features.element_size()
        if self.n_waiting >= min(self.chunk, max(1, _GALLERY_BYTES // row_bytes)):
            self._compare()

    def ranks(
        self, truth: torch.Tensor, n_classes: int, temperature: float
    ) -> torch.Tensor:
        """Rank of the true class of each query, on the CPU."""
        self._compare()
        ranks = []
        for start in range(0, len(truth), _VOTERS):
            part = slice(start, start + _VOTERS)
            scores = _class_scores(
                self.similarities[part].cpu(),
                self.labels[part].cpu(),
                n_classes,
                temperature,
            )
            ranks.append(class_ranks(scores, truth[part]))
        return torch.cat(ranks)

    def _compare(self) -> None:
        if not self.waiting:
            return
        features, labels = (
            torch.cat(parts) for parts in zip(*self.waiting, strict=True)
        )
        self.waiting, self.n_waiting = [], 0
        for rows, classes in zip(
            features.split(self.chunk), labels.split(self.chunk), strict=True
        ):
            n_queries = max(1, _SIMILARITIES // (len(rows) + self.k))
            for start in range(0, len(self.queries), n_queries):
                part = slice(start, start + n_queries)
                new = self.queries[part] @ rows.T  # (n_queries, n_rows)
                both = torch.cat([self.similarities[part], new], dim=1)
                best, where = both.topk(self.k, dim=1)
                old = self.labels[part].gather(1, where.clamp(max=self.k - 1))
                fresh = classes[(where - self.k).clamp(min=0)]
                self.similarities[part] = best
                self.labels[part] = torch.where(where < self.k, old, fresh)


def _class_scores(
    similarities: torch.Tensor, labels: torch.Tensor, n_classes: int, temperature: float
) -> torch.Tensor:
    """Logarithm of the summed weights of each class, float64; -inf without a vote."""
    logits = similarities.double() / temperature
    best = torch.full((len(logits), n_classes), -torch.inf, dtype=torch.float64)
    best = best.scatter_reduce(1, labels, logits, "amax")
    weights = (logits - best.gather(1, labels)).exp()
    return best + torch.zeros_like(best).scatter_add(1, labels, weights).log()


def _unit_rows(features: torch.Tensor) -> torch.Tensor:
    """Rows divided by their length along axis 1, then flattened; float32 or float64."""
    if features.ndim < 2:
        raise ValueError(
            f"features must have one row per image; got shape {tuple(features.shape)}."
        )
    x = features.detach()
    x = x if x.dtype == torch.float64 else x.float()
    if not bool(torch.isfinite(x).all()):
        bad = (~torch.isfinite(x)).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        raise ValueError(f"features must be finite; rows {listing(bad)} are not.")
    return functional.normalize(x, dim=1).flatten(1)


def _label_tensor(labels: ArrayLike | torch.Tensor) -> torch.Tensor:
    tensor = torch.as_tensor(labels, device="cpu")
    if tensor.is_floating_point() or tensor.is_complex():
        raise ValueError(f"labels must be indices of classes; got {tensor.dtype}.")
    return tensor.long()


def _check_vote(k: int, temperature: float) -> None:
    if k < 1:
        raise ValueError(f"k must be 1 or more; got {k}.")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0; got {temperature}.")


def _too_few(k: int, n_gallery: int) -> str:
    return (
        f"k must be at most the number of gallery images, {n_gallery}; got {k}. Pass "
        f"k={max(1, n_gallery)} or less."
    )
