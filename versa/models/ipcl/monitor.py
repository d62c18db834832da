"""What is measured between epochs: how well images are told apart by now."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from versa.models.ipcl.augment import views
from versa.models.ipcl.config import TrainConfig
from versa.models.ipcl.image_source import ImageSource
from versa.models.ipcl.learner import Learner
from versa.models.ipcl.loader import BadImages
from versa.models.ipcl.random_numbers import Draws, draws
from versa.models.ipcl.schedule import epoch_order
from versa.models.readouts.images import accuracy, class_ranks
from versa.models.readouts.neighbours import knn_accuracy
from versa.wording import listing

_NEVER = 2**62  # an epoch that no training reaches
_MIDDLE = 224 / 256  # of the short side, as the crop of the paper's read-outs
_BATCH = 128  # images


def middle_draws(sizes: np.ndarray, share: float = _MIDDLE) -> Draws:
    """One view of each image: the square in its middle, unvaried."""
    sizes = np.asarray(sizes, dtype=np.int64).reshape(-1, 2)
    n_images = len(sizes)
    side = np.maximum(1, np.rint(sizes.min(axis=1) * share)).astype(np.int64)
    boxes = np.stack(
        [(sizes[:, 0] - side) // 2, (sizes[:, 1] - side) // 2, side, side], axis=-1
    )
    no = torch.zeros(1, n_images, dtype=torch.bool)
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(1, n_images, 4)
    return Draws(
        sizes=torch.from_numpy(sizes),
        boxes=torch.from_numpy(boxes)[None],
        grey=no,
        jitter=no,
        order=torch.arange(4).expand(1, n_images, 4),
        factors=factors,
        flip=no,
        angle=torch.zeros(1, n_images),
    )


def pair_retrieval(first: torch.Tensor, second: torch.Tensor) -> float:
    """How often the nearest of all second views (n_images, dim) is of the same image.

    In percent; 100 / n_images by chance.
    """
    nearest = (first @ second.T).argmax(1)
    same = nearest == torch.arange(len(first), device=first.device)
    return 100.0 * float(same.double().mean())


class Monitor:
    """Measures of a network in training; they change nothing in it."""

    def __init__(
        self,
        config: TrainConfig,
        images: ImageSource,
        val: ImageSource | None,
        *,
        bad: BadImages,
        check_signals: Callable[[], None],
    ) -> None:
        self.config = config
        self.images = images
        self.val = val
        self._bad = bad
        self._bad_val = None
        if val is not None:
            log = bad.log and bad.log.with_name(f"{bad.log.stem}-val.csv")
            limit = config.engine.max_bad
            self._bad_val = BadImages(len(val), limit=limit, log=log)
        self._check_signals = check_signals
        self._classes = None if val is None else _matched(val, images)
        chosen = config.monitor
        mixed = epoch_order([len(images)], seed=config.seed, epoch=_NEVER)
        self._gallery = np.sort(mixed[: chosen.gallery or len(images)])
        self._pairs = mixed[: chosen.pairs]
        votes = config.method == "ipcl" and val is not None
        if votes and len(self._gallery) < chosen.k:
            raise ValueError(
                f"monitor.k must be at most the images that vote, {len(self._gallery)};"
                f" got {chosen.k}. Lower it."
            )

    @property
    def names(self) -> list[str]:
        """Names of the measures, each in percent."""
        if self.config.method == "supervised":
            return [] if self.val is None else ["val_top1", "val_top5"]
        found = [] if self.val is None else ["knn_top1", "knn_top5"]
        return [*found, *(["pairs_top1"] if self.config.monitor.pairs else [])]

    def measure(self, learner: Learner) -> dict[str, float]:
        """Measure a network, in percent by `names`; process 0 has all of it."""
        found: dict[str, float] = {}
        with _resting(learner):
            if "pairs_top1" in self.names:
                both, _ = self._outputs(learner, self.images, self._pairs, self._bad, 2)
                found["pairs_top1"] = pair_retrieval(*both.unbind(1))
            if self.val is None or self._bad_val is None:
                return found
            everything = np.arange(len(self.val))
            queries, given = self._outputs(
                learner, self.val, everything, self._bad_val, 1
            )
            truth = torch.as_tensor(self._classes)[given]
            if self.config.method == "supervised":
                ranks = class_ranks(queries[:, 0].cpu(), truth)
                scores = accuracy(ranks, len(self.images.classes))
                return {f"val_{name}": value for name, value in scores.items()}
            rows, labels = self._outputs(
                learner, self.images, self._gallery, self._bad, 1
            )
            if learner.group.is_main:
                chosen = self.config.monitor
                scores = knn_accuracy(
                    rows[:, 0],
                    labels.numpy(),
                    queries[:, 0],
                    truth.numpy(),
                    k=chosen.k,
                    temperature=chosen.temperature,
                    n_classes=len(self.images.classes),
                )
                found |= {f"knn_{name}": value for name, value in scores.items()}
        return found

    def _outputs(
        self,
        learner: Learner,
        images: ImageSource,
        indices: np.ndarray,
        bad: BadImages,
        n_views: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network makes of some images: (n_images, n_views, dim), labels."""
        group, config = learner.group, self.config
        shares = np.array_split(indices, group.n_ranks)
        longest = -(-len(shares[0]) // _BATCH)
        own = shares[group.rank]
        blocks = [own[k * _BATCH : (k + 1) * _BATCH] for k in range(longest)]
        loader = learner.loader(images, bad)
        plain = replace(config.augmentation, rotation=0.0)
        ipcl = config.method == "ipcl"
        units = config.dim if ipcl else len(self.images.classes)
        rows = [torch.empty(0, n_views, units, device=group.device)]
        labels = [torch.empty(0, dtype=torch.int64, device=group.device)]
        for chunk in loader.chunks(blocks, seed=config.seed, epoch=_NEVER):
            self._check_signals()
            if not len(chunk.labels):  # another process has one image more
                continue
            how, drawn = plain, middle_draws(chunk.sizes.numpy())
            if n_views > 1:
                how = config.augmentation
                drawn = draws(
                    how,
                    seed=config.seed,
                    epoch=_NEVER,
                    images=chunk.indices.numpy(),
                    n_views=n_views,
                    sizes=chunk.sizes.numpy(),
                )
            canvases = chunk.canvases.to(group.device, non_blocking=True)
            x = views(canvases, drawn, how, dtype=learner.input_type)
            with learner.cast():
                out = learner.network(x)
            rows.append(out.float().unflatten(0, (n_views, -1)).transpose(0, 1))
            labels.append(chunk.labels.to(group.device))
        counts = [len(share) for share in shares]
        return (
            group.all_gather(torch.cat(rows), counts),
            group.all_gather(torch.cat(labels), counts).cpu(),
        )


@contextmanager
def _resting(learner: Learner) -> Iterator[None]:
    """Eval mode without gradients; afterwards train mode again."""
    learner.network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        learner.network.train()


def _matched(val: ImageSource, images: ImageSource) -> np.ndarray:
    """Class of the training images for each class of the validation images."""
    whole = {name: k for k, name in enumerate(images.classes)}
    ends: dict[str, list[int]] = {}  # of several folders, without the folder
    for name, k in whole.items():
        ends.setdefault(name.rpartition("/")[2], []).append(k)
    found, strange = [], []
    for name in val.classes:
        options = [whole[name]] if name in whole else ends.get(name, [])
        found.extend(options[:1])
        if len(options) != 1:
            strange.append(name)
    if strange:
        raise ValueError(
            "classes of monitor.val must be among those of the training images; "
            f"{listing(strange)} are not, or not by one name. Rename its folders."
        )
    return np.array(found, dtype=np.int64)
