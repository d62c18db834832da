"""Score the layers of a network, given as Gram matrices, against a brain dataset."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from versa.cache import ArrayStore, content_key
from versa.fmri.ceilings import (
    half_correlations,
    noise_ceiling,
    subject_rdms,
)
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.encoding import (
    LARGEST_OFFSET,
    SMALLEST_ALPHA,
    alpha_grid,
    mean_eigenvalue,
)
from versa.fmri.kept import known_ceiling
from versa.fmri.permutation import (
    Yardstick,
    classic_permuted,
    encoded_permuted,
    image_orders,
    permuted_scores,
)
from versa.fmri.rdm import DISTANCES, rdm_from_gram
from versa.fmri.rsa import (
    EncodedRdms,
    EncodingTarget,
    encoded_rdms,
    encoding_target,
    null_rdms,
)
from versa.fmri.similarity import check_comparison, own_scores
from versa.fmri.voxel_scores import with_voxels
from versa.progress import counted
from versa.stats.intervals import fisher_mean
from versa.stats.splits import SplitHalves
from versa.wording import listing, unknown

if TYPE_CHECKING:
    import xarray as xr

    from versa.models.features import LayerGram

logger = logging.getLogger("versa")

ENCODING_METHODS = ("versa", "versa-debiased")
"""Methods that need voxel responses."""

ONE_SUBJECT = (
    "one subject has no halves to compare: there is no noise ceiling and no interval "
    "or test over subjects, and the best layer is the one with the highest score, "
    "which is too high, because it is the best of many and not cross-validated."
)
"""What is said of every result with one subject."""

_ENCODED_SCHEMA = "encoded-1"  # counts up when what a cache entry means changes
_PERMUTED_SCHEMA = "permuted-2"  # likewise
_BLOCK = 100  # permutations of a layer that are kept together
_FEWEST_PERMUTATIONS = 20  # with fewer no p is below .05
_VOXELS_SCHEMA = "voxels-1"  # likewise
_ABOUT = 1 - 1e-6  # for comparing with a bound that was multiplied
_MUCH = 32 * 2**20  # bytes of RDMs that are worth a word
_WORTH_A_WARNING = 0.1  # r; whatever a smaller score is made of, nobody relies on it


@dataclass(frozen=True)
class ScoreOptions:
    """What is done with the Gram matrices.

    Parameters
    ----------
    methods : tuple of str
        Any of "rsa", "versa" and "versa-debiased".
    alphas : "auto" or array-like of float, default="auto"
        Ridge penalties to choose from, as in :func:`versa.fit`.
    alpha_per_voxel : bool, default=True
        Choose a penalty for each voxel, not one for all voxels of a sector.
    standardize : bool, default=False
        Take the Gram matrices of standardized features, where units are z-scored.
    rdm : str, default="correlation"
        Distance between patterns, as in :func:`versa.fit`.
    compare_by : str, default="pearson"
        Measure by which RDMs are compared.
    voxel_scores : bool, default=False
        Keep how well each voxel is predicted.
    keep_rdms : bool, default=True
        Keep the RDMs of every subject beside their means, in float32.
    permutations : int, default=0
        How often the images of the brain are permuted against those of the network.
    progress : bool, default=False
        Show a progress bar.

    Raises
    ------
    ValueError
        If the penalties or the number of permutations are not valid.
    """

    methods: tuple[str, ...]
    alphas: str | ArrayLike = "auto"
    alpha_per_voxel: bool = True
    standardize: bool = False
    rdm: str = "correlation"
    compare_by: str = "pearson"
    voxel_scores: bool = False
    keep_rdms: bool = True
    permutations: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        check_comparison(self.compare_by)
        if self.rdm not in DISTANCES:
            raise ValueError(unknown("rdm", self.rdm, DISTANCES))
        if self.compare_by == "cka" and self.rdm not in ("euclidean", "crossnobis"):
            raise ValueError(
                "compare_by='cka' must come with rdm='euclidean': alignment is the "
                f"similarity of squared euclidean distances; got rdm={self.rdm!r}."
            )
        grid = self.alphas
        alpha_grid(grid, 1.0)  # wrong ones are refused before the long work
        if self.voxel_scores and not self.encode:
            raise ValueError(
                "voxel_scores must come with a method that encodes voxels, "
                f"{listing(ENCODING_METHODS)}; got {listing(self.methods)}."
            )
        if not isinstance(grid, str):
            object.__setattr__(self, "alphas", np.ravel(grid).tolist())
        m = self.permutations
        if isinstance(m, bool) or not isinstance(m, int | np.integer) or m < 0:
            raise ValueError(
                f"permutations must be a whole number of 0 or more; got {m!r}."
            )
        object.__setattr__(self, "permutations", int(m))

    @property
    def encode(self) -> bool:
        """Whether voxels are encoded, by any of the methods."""
        return bool(self.encoding_methods)

    @property
    def encoding_methods(self) -> tuple[str, ...]:
        """Those of the methods that encode voxels."""
        return tuple(m for m in self.methods if m in ENCODING_METHODS)


def score(
    model: str,
    grams: "Mapping[str, LayerGram]",
    brain: BrainDataset,
    splits: SplitHalves,
    options: ScoreOptions,
    store: ArrayStore | None = None,
) -> "xr.Dataset":
    """Score the layers of one network against the brains of one dataset.

    Parameters
    ----------
    model : str
        Name of the network, for the progress bar.
    grams : mapping of str to LayerGram
        Gram matrix (n_images, n_images) of each layer, images in the order of `brain`.
    brain : BrainDataset
        Responses or RDMs.
    splits : SplitHalves
        Half-splits of the subjects.
    options : ScoreOptions
        Methods, penalties and the like.
    store : ArrayStore, optional
        Where fitted RDMs are kept; by default nowhere.

    Returns
    -------
    data : Dataset
        The variables of a `FitResult` that depend on responses.
    """
    data = _empty(list(grams), brain, splits, options)
    _announce_rdms(data)
    if options.voxel_scores:
        data = with_voxels(data, brain)
    classic = {layer: _classic_rdm(gram, options.rdm) for layer, gram in grams.items()}
    what = f"{model}: encoding" if options.encode else f"{model}: RSA"
    n_scores = len(brain.sector_names) * len(grams)
    with counted(n_scores, what, "layer", show=options.progress) as bar:
        for number, name in enumerate(brain.sector_names):
            sector = _Sector.of(brain, name, options)
            _score_brain(_views(data, sector=name), sector, splits, options)
            for layer, gram in grams.items():
                rdms = {"rsa": classic[layer]}
                values = _views(data, sector=name, layer=layer)
                if sector.target is not None:
                    fitted = _encoded(gram, sector.target, sector.key, options, store)
                    rdms |= {"versa": fitted.versa, "versa-debiased": fitted.debiased}
                    values["alpha_at_smallest"][...] = fitted.at_smallest
                    values["alpha_at_largest"][...] = fitted.at_largest
                    if fitted.voxels is not None:
                        here = data["voxel_sector"].values == number
                        for what, found in zip(
                            ("voxel_r", "voxel_r2"), fitted.voxels, strict=True
                        ):
                            values[what][here] = found
                _score_layer(values, rdms, sector, splits, options)
                bar.update()
    if options.permutations:
        _permute(data, model, grams, classic, brain, splits, options, store)
    return data.assign(predicted_distance=data["model_rdm"].mean("pair"))


@dataclass(frozen=True)
class _Sector:
    """What is known of one sector before any layer is looked at."""

    measured: np.ndarray  # RDMs, (n_subjects, n_pairs)
    responses: Sequence[np.ndarray] | None  # (n_images, n_voxels) of each subject
    target: EncodingTarget | None
    key: str  # hash of the responses

    @classmethod
    def of(cls, brain: BrainDataset, name: str, options: ScoreOptions) -> "_Sector":
        """The sector of this name."""
        measured = subject_rdms(brain, name, options.rdm)
        if brain.responses is None:
            return cls(measured, None, None, "")
        responses = brain.responses[name]
        target = encoding_target(responses, options.rdm) if options.encode else None
        return cls(measured, responses, target, content_key(responses=list(responses)))


def _views(data: "xr.Dataset", **place: str) -> dict[str, np.ndarray]:
    """The arrays of `data` at a sector (and layer), to be written into."""
    found = {}
    for name, array in data.items():
        here = {dim: label for dim, label in place.items() if dim in array.dims}
        found[str(name)] = array.loc[here].values
    return found


def _score_brain(
    values: dict[str, np.ndarray],
    sector: _Sector,
    splits: SplitHalves,
    options: ScoreOptions,
) -> None:
    """Fill in what depends on the brains alone."""
    values["brain_rdm"][...] = sector.measured.mean(axis=0)
    values["ceiling"][...] = noise_ceiling(sector.measured, splits, options.compare_by)
    if "brain_rdms" in values:
        values["brain_rdms"][...] = sector.measured
    if sector.responses is not None:
        values["n_voxels"][...] = [voxels.shape[1] for voxels in sector.responses]
        null = null_rdms(sector.responses, options.rdm)
        values["null"][...] = half_correlations(
            null, sector.measured, splits, options.compare_by
        )


def _score_layer(
    values: dict[str, np.ndarray],
    rdms: dict[str, np.ndarray],
    sector: _Sector,
    splits: SplitHalves,
    options: ScoreOptions,
) -> None:
    """Fill in the scores of one layer, given its RDMs by each method."""
    r = {
        method: half_correlations(
            rdms[method], sector.measured, splits, options.compare_by
        )
        for method in {*options.methods, "versa-debiased"} & set(rdms)
    }
    if "versa-debiased" in r:
        values["debiased_r"][...] = fisher_mean(r["versa-debiased"])
    for i, method in enumerate(options.methods):
        values["scores"][i] = r[method]
        values["subject_scores"][i] = own_scores(
            rdms[method], sector.measured, options.compare_by
        )
        values["model_rdm"][i] = rdms[method].mean(axis=0)
    for i, method in enumerate(options.encoding_methods):
        if "model_rdms" in values:
            values["model_rdms"][i] = rdms[method]


def _empty(
    layers: list[str], brain: BrainDataset, splits: SplitHalves, options: ScoreOptions
) -> "xr.Dataset":
    """The variables of `score`, NaN until they are known."""
    import xarray as xr

    labels = {
        "methods": list(options.methods),
        "sector": list(brain.sector_names),
        "layer": layers,
        "subject": list(brain.subjects),
        "half": ["first", "second"] if splits.n_halves == 2 else ["all"],
    }
    sizes = {name: len(items) for name, items in labels.items()}
    sizes["split"] = splits.n_splits
    sizes["pair"] = brain.n_images * (brain.n_images - 1) // 2
    single = np.float32

    def empty(
        *dims: str, fill: float = np.nan, dtype: type = np.float64
    ) -> tuple[tuple[str, ...], np.ndarray]:
        return dims, np.full([sizes[dim] for dim in dims], fill, dtype)

    variables = {
        "scores": empty("methods", "sector", "layer", "split", "half"),
        "subject_scores": empty("methods", "sector", "layer", "subject"),
        "null": empty("sector", "split", "half"),
        "ceiling": empty("sector", "split"),
        "model_rdm": empty("methods", "sector", "layer", "pair"),
        "brain_rdm": empty("sector", "pair"),
        "alpha_at_smallest": empty("sector", "layer"),
        "alpha_at_largest": empty("sector", "layer"),
        "debiased_r": empty("sector", "layer"),
        "n_voxels": empty("sector", "subject", fill=0, dtype=np.int64),
    }
    if options.permutations:
        sizes["permutation"] = options.permutations
        variables["permuted"] = empty("methods", "sector", "layer", "permutation")
        variables["permuted_best"] = empty("methods", "sector", "permutation")
        if options.voxel_scores:
            of_voxels = ("sector", "layer", "subject", "permutation")
            variables["permuted_voxels"] = empty(*of_voxels)
    if options.keep_rdms:
        variables["brain_rdms"] = empty("sector", "subject", "pair", dtype=single)
        if options.encoding_methods:
            labels["encoding"] = list(options.encoding_methods)
            sizes["encoding"] = len(options.encoding_methods)
            dims = ("encoding", "sector", "layer", "subject", "pair")
            variables["model_rdms"] = empty(*dims, dtype=single)
    return xr.Dataset(variables, coords=labels)


def _announce_rdms(data: "xr.Dataset") -> None:
    """Say what the RDMs of every subject take, if it is much."""
    names = {"brain_rdms", "model_rdms"} & set(data)
    n_bytes = sum(data[name].nbytes for name in names)
    if n_bytes > _MUCH:
        logger.info(
            "the result keeps %.0f MB of RDMs of the subjects; keep_rdms=False (or "
            "--no-rdms) leaves them out.",
            n_bytes / 2**20,
        )


def _classic_rdm(gram: "LayerGram", measure: str) -> np.ndarray:
    """RDM of the units, one for all subjects, (1, n_pairs)."""
    rdm = rdm_from_gram(gram.gram, gram.sums, gram.n_units, measure)
    if np.isnan(rdm).any():
        logger.warning(
            "layer %s has the same value in all units for some images; its classic "
            "RSA score is undefined.",
            gram.layer,
        )
    return rdm[None]


def _encoded(
    gram: "LayerGram",
    target: EncodingTarget,
    responses_key: str,
    options: ScoreOptions,
    store: ArrayStore | None,
) -> EncodedRdms:
    """RDMs of one layer's predictions: from the cache, or by ridge regression."""
    features = _features(gram, options)
    parts = {
        "gram": features,
        "responses": responses_key,
        "alphas": options.alphas,
        "alpha_per_voxel": options.alpha_per_voxel,
    }
    key = content_key(
        schema=_ENCODED_SCHEMA,
        **parts,
        **({} if options.rdm == "correlation" else {"rdm": options.rdm}),
    )
    voxels_key = content_key(schema=_VOXELS_SCHEMA, **parts)
    entry = store.read(key) if store else None
    voxels = store.read(voxels_key) if store and options.voxel_scores else None
    if entry is not None and (voxels is not None or not options.voxel_scores):
        smallest, largest = entry["edges"].tolist()
        found = None if voxels is None else voxels["scores"]
        return EncodedRdms(entry["versa"], entry["debiased"], smallest, largest, found)
    fitted = encoded_rdms(
        features,
        target,
        options.alphas,
        alpha_per_voxel=options.alpha_per_voxel,
        with_voxels=options.voxel_scores,
    )
    if store and fitted.voxels is not None:
        store.write(voxels_key, scores=fitted.voxels)
    if store:
        edges = np.array([fitted.at_smallest, fitted.at_largest])
        store.write(key, versa=fitted.versa, debiased=fitted.debiased, edges=edges)
    return fitted


def _features(gram: "LayerGram", options: ScoreOptions) -> np.ndarray:
    """The Gram matrix that is wanted."""
    features = gram.standardized if options.standardize else gram.gram
    if features is None:
        raise ValueError(
            f"features of {gram.layer} were extracted without standardize."
        )
    return features


def _permute(
    data: "xr.Dataset",
    model: str,
    grams: "Mapping[str, LayerGram]",
    classic: Mapping[str, np.ndarray],
    brain: BrainDataset,
    splits: SplitHalves,
    options: ScoreOptions,
    store: ArrayStore | None,
) -> None:
    """Fill in the scores of every permutation of the images."""
    from tqdm.auto import tqdm

    orders = image_orders(brain.n_images, options.permutations)
    with tqdm(
        total=len(brain.sector_names) * len(grams) * len(orders),
        desc=f"{model}: permutations",
        disable=not options.progress,
        leave=False,
    ) as bar:
        for name in brain.sector_names:
            sector, values = _Sector.of(brain, name, options), _views(data, sector=name)
            yardstick = Yardstick(sector.measured, splits, options.compare_by)
            for start in range(0, len(orders), _BLOCK):
                block = slice(start, start + _BLOCK)
                kept: dict[str, list[np.ndarray]] = {m: [] for m in options.methods}
                for k, (layer, gram) in enumerate(grams.items()):
                    if "rsa" in kept:
                        rdm = classic[layer][0]
                        kept["rsa"].append(
                            classic_permuted(rdm, yardstick, orders[block])
                        )
                    if sector.target is not None:
                        found = _permuted(
                            gram, sector, yardstick, orders[block], options, store
                        )
                        for method in options.encoding_methods:
                            kept[method].append(found[method])
                        if "permuted_voxels" in values:
                            values["permuted_voxels"][k, :, block] = found["voxels"].T
                    bar.update(len(orders[block]))
                for i, method in enumerate(options.methods):
                    scores = permuted_scores(kept[method], yardstick)
                    values["permuted"][i, :, block] = scores.layers
                    values["permuted_best"][i, block] = scores.best


def _permuted(
    gram: "LayerGram",
    sector: _Sector,
    yardstick: Yardstick,
    orders: np.ndarray,
    options: ScoreOptions,
    store: ArrayStore | None,
) -> dict[str, np.ndarray]:
    """What is kept of one layer's predictions in a block of permutations, by method.

    Their number is not in the key of the cache: more of them begin with the same.
    """
    features = _features(gram, options)
    key = content_key(
        schema=_PERMUTED_SCHEMA,
        gram=features,
        responses=sector.key,
        rdm=options.rdm,
        orders=orders,
        alphas=options.alphas,
        alpha_per_voxel=options.alpha_per_voxel,
        voxels=options.voxel_scores,
        **yardstick.key,
    )
    entry = store.read(key) if store else None
    if entry is not None:
        return entry
    if sector.target is None:
        raise ValueError("a dataset of RDMs has no responses to encode.")
    found = encoded_permuted(
        features,
        sector.target,
        yardstick,
        orders,
        options.alphas,
        alpha_per_voxel=options.alpha_per_voxel,
        with_voxels=options.voxel_scores,
    )
    if store:
        store.write(key, **found)
    return found


def score_warnings(
    data: "xr.Dataset", grams: "Mapping[str, LayerGram]", options: ScoreOptions
) -> list[str]:
    """What must be known before the numbers of :func:`score` are read."""
    return [
        *ceiling_warnings(data, options.compare_by),
        *_undefined_scores(data),
        *_lost_digits(grams, options),
        *_few_permutations(options),
        *null_warnings(data),
    ]


def ceiling_warnings(data: "xr.Dataset", compare_by: str = "pearson") -> list[str]:
    """A sentence per sector whose noise ceiling cannot be told from 0."""
    if data.sizes["subject"] < 2:
        return [ONE_SUBJECT]
    found = []
    for sector in data["sector"].values:
        mean, low, high = known_ceiling(data, sector, compare_by)
        if not low > 0:
            what = (
                f"is too uncertain with {data.sizes['subject']} subjects"
                if np.isnan(low)
                else f"cannot be told from 0 (95% CI [{low:.2f}, {high:.2f}])"
            )
            found.append(
                f"{sector}: the noise ceiling, r = {mean:.2f}, {what}. No share of "
                "explainable variance is given there, and scores say little."
            )
    return found


def _undefined_scores(data: "xr.Dataset") -> list[str]:
    """A sentence per set of layers and sectors without scores."""
    undefined = data["scores"].isnull().any(["split", "half"])
    places: dict[tuple[str, ...], list[str]] = {}
    for sector in data["sector"].values:
        for method in data["methods"].values:
            lost = undefined.loc[method, sector].values
            if lost.any():
                layers = tuple(data["layer"].values[lost])
                places.setdefault(layers, []).append(f"{method} in {sector}")
    return [
        f"the score of {listing(layers)} is undefined for {listing(where)}: the RDM "
        "of the layer, or that of a half of the subjects, does not vary or holds NaN. "
        "A layer that gives the same output for every image has no geometry."
        for layers, where in places.items()
    ]


def _lost_digits(grams: "Mapping[str, LayerGram]", options: ScoreOptions) -> list[str]:
    """A sentence on the layers whose ridge regression loses more than it may."""
    if not options.encode:
        return []
    small, offset = [], []
    for layer, gram in grams.items():
        features = gram.standardized if options.standardize else gram.gram
        if features is None:
            continue
        spread = mean_eigenvalue(features)
        if not spread > 0:
            continue
        if alpha_grid(options.alphas, spread).min() < SMALLEST_ALPHA * spread * _ABOUT:
            small.append(layer)
        if np.trace(features) > LARGEST_OFFSET**2 * spread * len(features):
            offset.append(layer)
    found = []
    if small:
        found.append(
            f"alphas of {listing(small)} are below {SMALLEST_ALPHA:g} of the mean "
            "eigenvalue of the features: rounding may decide there. Take larger ones, "
            "or 'auto'."
        )
    if offset:
        found.append(
            f"the features of {listing(offset)} have a mean of more than "
            f"{LARGEST_OFFSET:g} times their spread over the images: the scores lose "
            "digits. Subtract a constant in the network, or take another layer."
        )
    return found


def _few_permutations(options: ScoreOptions) -> list[str]:
    """A sentence if no p can be below .05."""
    if not 0 < options.permutations < _FEWEST_PERMUTATIONS:
        return []
    return [
        f"with {options.permutations} permutations no p is below "
        f"{1 / (options.permutations + 1):.2g}. Take {_FEWEST_PERMUTATIONS} or more; "
        "1000 are usual."
    ]


def null_warnings(data: "xr.Dataset") -> list[str]:
    """A sentence per sector of a result whose `versa` scores are mostly the null.

    Parameters
    ----------
    data : Dataset
        What :func:`score` returns.

    Returns
    -------
    warnings : list of str
        For each sector the layers whose score is more than halved by debiasing.
    """
    if "versa" not in data["methods"]:
        return []
    faithful = fisher_mean(data["scores"].loc["versa"].values, axis=(2, 3))
    debiased = data["debiased_r"].values  # both (n_sectors, n_layers)
    mostly = (faithful > _WORTH_A_WARNING) & ~(debiased >= faithful / 2)
    null = fisher_mean(data["null"].values, axis=(1, 2))
    layers = data["layer"].values
    return [
        f"{sector}: the versa score of {listing(layers[mostly[j]])} is mostly that of "
        f"an intercept-only encoder (null r = {null[j]:.2f}): less than half of it is "
        "left after debiasing. Read versa-debiased instead."
        for j, sector in enumerate(data["sector"].values)
        if mostly[j].any()
    ]
