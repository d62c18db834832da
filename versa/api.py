"""`fit`: the one place where networks and brains meet."""

import dataclasses
import datetime
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

import versa
from versa.cache import (
    ArrayStore,
    cache_folder,
    installed_versions,
    sweep_leftovers,
)
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.registry import load_dataset
from versa.fmri.permutation import image_orders
from versa.fmri.scoring import ScoreOptions, score, score_warnings
from versa.result import METHODS, FitResult
from versa.stats.bootstrap import POPULATIONS
from versa.stats.selection import HALVES
from versa.stats.splits import SplitHalves, split_halves
from versa.wording import chosen_names, listing, unknown

if TYPE_CHECKING:
    import xarray as xr
    from torch import nn

    from versa.models.features import ForwardOptions
    from versa.models.grams import Grams
    from versa.models.vision import VisionModel

__all__ = ["fit"]

logger = logging.getLogger("versa")

_FEWEST_VOXELS = 3


def fit(
    model: "str | nn.Module | VisionModel",
    layer_list: str | Sequence[str] | None = None,
    dataset: "str | os.PathLike[str] | BrainDataset" = "orientation",
    *,
    layers: str | Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    sectors: Sequence[str] | None = None,
    alphas: str | ArrayLike = "auto",
    alpha_per_voxel: bool = True,
    standardize: bool = False,
    rdm: str = "correlation",
    compare_by: str = "pearson",
    halves: str = "both",
    splits: SplitHalves | None = None,
    permutations: int = 0,
    device: str | None = None,
    preprocess: Callable[..., Any] | None = None,
    name: str | None = None,
    batch_size: int = 32,
    convert_images: bool = False,
    drop_bad_voxels: bool = False,
    voxel_scores: bool = False,
    keep_rdms: bool = True,
    generalize: str = "subjects",
    cache: "bool | str | os.PathLike[str]" = True,
    progress: bool = True,
) -> FitResult:
    """Fit the layers of a network to the responses of a group of subjects.

    One forward pass over the images, leave-one-out ridge regression from every layer
    to every voxel, RDMs of the predicted responses, and their correlation with the
    brain's RDMs in both halves of every half-split of the subjects.

    Parameters
    ----------
    model : str, torch.nn.Module or VisionModel
        A name of :func:`versa.list_models`, ``torchvision/NAME``, ``timm/NAME``, or
        your own network together with `preprocess`.
    layer_list : sequence of str, or "leaf", optional
        Dotted module names; ``"leaf"`` for all leaf modules. Default: the layers of
        the network's card or architecture.
    dataset : str, path or BrainDataset, default="orientation"
        A name of :func:`versa.list_datasets`, a dataset folder, or a dataset.
    layers : sequence of str, or "leaf", optional
        Another name of `layer_list`; give one of them.
    methods : sequence of {"versa", "versa-debiased", "rsa"}, optional
        Default: all three; ``rsa`` for a dataset of RDMs. ``versa`` is the paper's
        procedure; ``versa-debiased`` the same weights without the leave-one-out bias:
        the training mean leaks information about the held-out image; ``rsa`` classic
        RSA, without an encoding model.
    sectors : sequence of str, optional
        Default: all sectors of the dataset.
    alphas : {"auto", "sklearn"} or array-like, default="auto"
        Ridge penalties, see :func:`versa.fmri.encoding.alpha_grid`.
    alpha_per_voxel : bool, default=True
        One alpha per voxel, or one for all voxels of a subject's sector.
    standardize : bool, default=False
        Give every unit unit variance over the images before the ridge regression.
        The variance is that of all images, the held-out one included; responses are
        not involved.
    rdm : {"correlation", "euclidean", "cosine", "crossnobis"}
        Distance between the patterns of two images, see
        :func:`versa.fmri.rdm.pattern_rdm`. ``"crossnobis"`` multiplies the betas of odd
        and even runs, which the dataset must hold; for features and predictions, which
        hold no noise, it is the euclidean distance.
    compare_by : {"pearson", "spearman", "kendall-tau-a", "cosine", "whitened", "cka"}
        How RDMs are compared, see :func:`versa.fmri.ceilings.half_correlations`. It
        is the ``r`` of all tables, and is averaged through Fisher z whatever it is.
        ``methods=["rsa"], rdm="euclidean", compare_by="cka"`` is the linear CKA of
        features and responses; of a half, that of all its subjects' voxels, where
        each subject has the same weight.
    halves : {"both", "mean", "first"}
        What counts as one sample of a split in the tables of the result: each half, the
        mean of both, whose intervals and tests are void, or the first one. All scores
        are kept.
    splits : SplitHalves, optional
        Default: all half-splits (1000 random ones beyond 20 subjects).
    permutations : int, default=0
        How often the images of the brain are permuted against those of the network,
        and everything is fitted and scored again: the chance level and p of every
        layer. 1000 are usual; each costs about as much time as the encoding of a fit.
    device : str, optional
        ``"cuda"``, ``"cpu"``, ... for the forward pass. Default: where the network
        is.
    preprocess : callable, optional
        PIL image (RGB) -> float tensor, usually (3, height, width), an array, or a
        dictionary with ``pixel_values``. Required with a network of your own; a
        network of the zoo has its own.
    name : str, optional
        Name of the model in tables.
    batch_size : int, default=32
        Images per forward pass.
    convert_images : bool, default=False
        Convert images that are not RGB (transparent pixels become white) and accept
        different sizes, instead of refusing them.
    drop_bad_voxels : bool, default=False
        Drop voxels whose betas are constant or hold NaN, instead of refusing them.
    voxel_scores : bool, default=False
        Keep how well each voxel is predicted, for :meth:`FitResult.encoding` and
        :meth:`FitResult.voxel_map`: r and R² in float32, 8 bytes x layers x voxels of
        all sectors and subjects.
    keep_rdms : bool, default=True
        Keep the RDMs of every subject in the result, predicted and measured, as
        float32: 4 bytes x (methods that encode x layers + 1) x sectors x subjects x
        pairs of images. Means over subjects are always kept. Without them there is no
        bootstrap and no interval of a share, and that of the ceiling is the wider one
        of :meth:`FitResult.ceiling_interval`.
    generalize : {"subjects", "images", "both"}, default="subjects"
        Population that the tables of the result generalise to, by bootstrap over
        images and subjects; any other may be asked of them later. Needs the RDMs of
        the subjects.
    cache : bool or path, default=True
        Keep Gram matrices and predicted RDMs in the cache folder, or in this one.
    progress : bool, default=True
        Show progress bars.

    Returns
    -------
    result : FitResult
        Scores (methods, sector, layer, split, half), null, noise ceiling, tables.

    Raises
    ------
    ValueError
        If a name is unknown, both `layer_list` and `layers` are given, images or
        betas are not usable as they are, or the method does not apply to the dataset.

    References
    ----------
    Konkle & Alvarez (2022), Nature Communications 13:491,
    https://doi.org/10.1038/s41467-022-28091-4

    Examples
    --------
    >>> import versa
    >>> result = versa.fit("alexnet_gn_untrained", ["conv_block_1", "fc6"],
    ...                    dataset="simulated-orientation")  # doctest: +SKIP
    >>> result.layers()  # doctest: +SKIP
    """
    started = time.perf_counter()
    layer_list = _one_list(layer_list, layers)
    options = FitOptions(
        methods=chosen_names(
            METHODS if methods is None else methods, "method", METHODS
        ),
        alphas=alphas,
        alpha_per_voxel=alpha_per_voxel,
        standardize=standardize,
        rdm=rdm,
        compare_by=compare_by,
        permutations=permutations,
        voxel_scores=voxel_scores,
        halves=halves,
        keep_rdms=keep_rdms,
        generalize=generalize,
        progress=progress,
        device=device,
        batch_size=batch_size,
        convert_images=convert_images,
        drop_bad_voxels=drop_bad_voxels,
    )
    brain = load_dataset(dataset, halves=rdm == "crossnobis")
    if methods is None and brain.responses is None:
        options = dataclasses.replace(options, methods=("rsa",))
    brain = _usable(brain, sectors, options)
    splits = _of_subjects(splits, brain)
    store = _store(cache)
    vision, grams = _grams(model, layer_list, brain, store, options, preprocess, name)
    data = score(vision.name, grams.layers, brain, splits, options, store)
    data = _with_stimuli(data, brain, splits, grams, store)
    warned = [*grams.warnings, *score_warnings(data, grams.layers, options)]
    for sentence in warned:
        logger.warning("%s", sentence)
    provenance = {
        "model": _model_record(vision, grams.fingerprint) | {"source": _source(model)},
        "dataset": _dataset_record(brain),
        "options": options.record(splits),
        "warnings": warned,
        "versions": _versions(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return FitResult(
        data.assign_attrs(provenance=json.dumps(provenance, sort_keys=True))
    )


def _one_list(
    layer_list: str | Sequence[str] | None, layers: str | Sequence[str] | None
) -> str | Sequence[str] | None:
    """The layers by whichever of both names they were given."""
    if layer_list is not None and layers is not None:
        raise ValueError(
            f"layers must be left out beside layer_list; got {layers!r} and "
            f"{layer_list!r}. They are the same option."
        )
    return layer_list if layers is None else layers


@dataclass(frozen=True)
class FitOptions(ScoreOptions):
    """The options of one fit, checked once."""

    halves: str = "both"
    device: str | None = None
    batch_size: int = 32
    convert_images: bool = False
    drop_bad_voxels: bool = False
    generalize: str = "subjects"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.halves not in HALVES:
            raise ValueError(unknown("halves", self.halves, HALVES))
        if self.generalize not in POPULATIONS:
            raise ValueError(unknown("generalize", self.generalize, POPULATIONS))
        if self.generalize != "subjects" and not self.keep_rdms:
            raise ValueError(
                "keep_rdms must be True to generalise to images, which are drawn from "
                f"the RDMs; got generalize={self.generalize!r} with keep_rdms=False."
            )

    def forward(self) -> "ForwardOptions":
        """Those of the forward pass."""
        from versa.models.features import ForwardOptions

        return ForwardOptions(
            self.batch_size,
            self.device,
            self.standardize,
            self.convert_images,
            progress=self.progress,
        )

    def record(self, splits: SplitHalves) -> dict[str, Any]:
        """What the provenance of the result holds."""
        options = dataclasses.asdict(self)
        for name in ("methods", "keep_rdms", "progress"):
            del options[name]
        return options | {
            "n_splits": splits.n_splits,
            "literal_test_train_ratio": splits.test_train_ratio,
        }


def _usable(
    brain: BrainDataset, sectors: Sequence[str] | None, options: FitOptions
) -> BrainDataset:
    """The dataset with the wanted sectors, if the methods can be run on it."""
    if sectors is not None:
        brain = brain.select(sectors)
    fewest = 4 if options.encode else 3
    if brain.n_images < fewest:
        raise ValueError(
            f"a dataset must have at least {fewest} images for "
            f"{listing(options.methods)}; {brain.name} has {brain.n_images}."
        )
    image_orders(brain.n_images, options.permutations)  # refused before the long work
    if brain.responses is None:
        _require_rdms(brain, options)
        return brain
    if options.drop_bad_voxels:
        brain = brain.drop_bad_voxels()
    brain.require_clean_voxels()
    if options.rdm == "crossnobis" and brain.halves is None:
        raise ValueError(
            "rdm='crossnobis' needs the betas of odd and even runs; "
            f"{brain.name} holds none. Read a dataset folder that has them with "
            "versa.read_dataset(folder, halves=True), or take another distance."
        )
    for sector, responses in (brain.responses or {}).items():
        for subject, voxels in zip(brain.subjects, responses, strict=True):
            if voxels.shape[1] < _FEWEST_VOXELS:
                raise ValueError(
                    f"sectors must have at least {_FEWEST_VOXELS} voxels for a "
                    f"correlation distance; {sector} of subject {subject} has "
                    f"{voxels.shape[1]}. Leave the sector or the subject out."
                )
            flat = np.flatnonzero(np.ptp(voxels, axis=1) == 0)
            if flat.size:
                ids = listing(brain.stimuli.names[int(i)] for i in flat)
                raise ValueError(
                    "responses to an image must vary over voxels; in "
                    f"{sector} of subject {subject} those to {ids} do not. Check the "
                    "betas, or leave the sector or the subject out."
                )
    return brain


def _require_rdms(brain: BrainDataset, options: FitOptions) -> None:
    """Refuse a dataset of RDMs for encoding, or if an RDM does not vary."""
    if options.encode:
        raise ValueError(
            f"methods must be rsa for {brain.name}, which holds RDMs and no voxel "
            f"responses to encode; got {listing(options.methods)}. Pass "
            "methods=('rsa',), or --methods rsa."
        )
    for sector, rdms in (brain.rdms or {}).items():
        flat = np.flatnonzero(np.ptp(rdms, axis=1) == 0)
        if flat.size:
            raise ValueError(
                f"RDMs must vary over pairs; in {sector} those of subjects "
                f"{listing(brain.subjects[int(i)] for i in flat)} do not. "
                "Leave them out."
            )


def _of_subjects(splits: SplitHalves | None, brain: BrainDataset) -> SplitHalves:
    splits = split_halves(brain.n_subjects) if splits is None else splits
    if splits.n_subjects != brain.n_subjects:
        raise ValueError(
            f"splits must be of the dataset's {brain.n_subjects} subjects; got splits "
            f"of {splits.n_subjects}."
        )
    return splits


def _store(cache: "bool | str | os.PathLike[str]") -> ArrayStore | None:
    if cache is False:
        return None
    folder = cache_folder() / "store" if cache is True else Path(cache)
    sweep_leftovers(folder)
    return ArrayStore(folder)


def _grams(
    model: "str | nn.Module | VisionModel",
    layer_list: str | Sequence[str] | None,
    brain: BrainDataset,
    store: ArrayStore | None,
    options: FitOptions,
    preprocess: Callable[..., Any] | None,
    name: str | None,
) -> "tuple[VisionModel, Grams]":
    """The network, and the Gram matrices of its layers."""
    from versa.models.grams import cached_grams
    from versa.models.zoo.loading import load_model

    forward = options.forward()
    vision = load_model(model, preprocess=preprocess)
    if name is not None:
        vision = dataclasses.replace(vision, name=name)
    _announce(brain)
    return vision, cached_grams(vision, layer_list, brain.stimuli, store, forward)


def _announce(brain: BrainDataset) -> None:
    """Say what a long run will need before it starts."""
    n_voxels = [sum(x.shape[1] for x in s) for s in (brain.responses or {}).values()]
    # responses, predictions, alphas and centred predictions of one sector at a time
    n_bytes = 5 * 8 * brain.n_images * max(n_voxels, default=0)
    logger.info(
        "%s: %d images, %d subjects; about %.0f MB for encoding.",
        *(brain.name, brain.n_images, brain.n_subjects, n_bytes / 2**20),
    )


def _with_stimuli(
    data: "xr.Dataset",
    brain: BrainDataset,
    splits: SplitHalves,
    grams: "Grams",
    store: ArrayStore | None,
) -> "xr.Dataset":
    """The scores with what they are of: images, layers, halves."""
    from versa.models.images import thumbnails

    stimuli = brain.stimuli
    n_units = [gram.n_units for gram in grams.layers.values()]
    pictures = thumbnails(stimuli.paths, stimuli.hashes, store)
    return data.assign(
        members=(("split", "subject"), splits.members),
        n_units=(("layer",), np.array(n_units)),
        sha256=(("stimulus",), np.array(stimuli.hashes, dtype=object)),
        thumbnail=(("stimulus",), pictures),
    ).assign_coords(stimulus=list(stimuli.names))


def _model_record(vision: "VisionModel", fingerprint: str) -> dict[str, Any]:
    card = None if vision.card is None else dataclasses.asdict(vision.card)
    return {
        "name": vision.name,
        "fingerprint": fingerprint,
        "preprocess": repr(vision.preprocess),
        "card": card,
    }


def _source(model: Any) -> str:
    """What was asked for, whatever it is called in tables: a name with its path."""
    return model if isinstance(model, str) else str(getattr(model, "name", ""))


def _dataset_record(brain: BrainDataset) -> dict[str, Any]:
    return {
        "name": brain.name,
        "fingerprint": brain.fingerprint,
        "stimuli": brain.stimuli.digest,
        "unit": brain.unit,
        "space": brain.space,
        "licence": brain.licence,
        "citation": brain.citation,
    }


def _versions() -> dict[str, str]:
    found = {"versa": versa.__version__, "python": platform.python_version()}
    return found | installed_versions(
        "numpy", "scipy", "torch", "torchvision", "timm", "pillow"
    )
