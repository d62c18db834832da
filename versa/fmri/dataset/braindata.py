"""BrainDataset: responses of several brains to one set of images."""

import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.fmri.dataset.stimuli import StimulusSet
from versa.fmri.rdm import is_rsatoolbox, pattern_names
from versa.fmri.sectors.sector import Sector, check_same_grid
from versa.fmri.volumes.spaces import check_space
from versa.fmri.volumes.voxels import check_estimates, has_estimate
from versa.wording import chosen_names, listing, unique_names

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

logger = logging.getLogger("versa")

_ASYMMETRY = 1e-8  # of the largest distance, between both halves of a square RDM
# Their squares, and sums of these over images and voxels, are far from 0 and infinity.
_SMALLEST, _LARGEST = 1e-140, 1e140


@dataclass(frozen=True, eq=False, repr=False)
class BrainDataset:
    """Responses of several subjects, sector by sector, to one set of images.

    It holds either voxel responses or RDMs. Arrays are taken as float64 and are not
    copied when they are float64 already: do not change them afterwards. NaN and
    constant voxels are let in, and :meth:`require_clean_voxels` finds them.

    Parameters
    ----------
    name : str
        How tables and figures call the dataset.
    stimuli : StimulusSet
        The n_images images, in the order of the rows of `responses`.
    subjects : sequence of str, length n_subjects
        Labels such as ``"01"``, unique.
    responses : mapping of str to sequence of array-like, optional
        For each sector one array of shape (n_images, n_voxels) per subject; n_voxels
        may differ between subjects. The index of a DataFrame must be the image names.
        An image that is 0 or NaN in all voxels was never estimated and is refused.
    rdms : mapping of str to array-like of shape (n_subjects, n_pairs), optional
        For each sector one RDM per subject, in the pair order of
        ``scipy.spatial.distance.pdist``; or squares (n_subjects, n_images, n_images),
        or an ``RDMs`` of rsatoolbox. Names that come with them (a DataFrame's index
        and columns, a pattern descriptor, the RDM descriptor ``subject``) must be
        those of the images and subjects, in the same order.
    sectors : mapping of str to sequence of Sector, optional
        For each sector of `responses` one mask per subject, with as many voxels as the
        responses have columns, in the same order (C order of the mask).
    reliability : mapping of str to sequence of array-like, optional
        For each sector of `responses` one array of shape (n_voxels,) per subject: the
        correlation of odd and even runs, as
        :func:`versa.fmri.reliability.voxel_reliability` gives it, which the noise
        ceilings of voxels are made of. NaN where it is not known.
    halves : mapping of str to sequence of (array-like, array-like), optional
        For each sector of `responses` two arrays of the shape of its responses per
        subject: the betas of odd and of even runs, for crossnobis distances.
    unit : str, default="a.u."
        Unit of the responses.
    space : str, default="none"
        Space of the voxels; with `sectors`, theirs.
    licence, citation, description : str, default=""
        What others need to know to use the data.

    Examples
    --------
    >>> names = ["cup", "dog", "ear", "fan"]
    >>> stimuli = StimulusSet(names, [f"{n}.png" for n in names], ["0" * 64] * 4)
    >>> rng = np.random.default_rng(0)
    >>> dataset = BrainDataset(
    ...     name="mine",
    ...     stimuli=stimuli,
    ...     subjects=["01", "02"],
    ...     responses={"EarlyV": [rng.normal(size=(4, 9)), rng.normal(size=(4, 7))]},
    ... )
    >>> dataset
    <BrainDataset 'mine': 2 subjects, 4 images, EarlyV (7-9 voxels), space none>
    >>> dataset.select(subjects=["02"])
    <BrainDataset 'mine': 1 subject, 4 images, EarlyV (7 voxels), space none>
    """

    name: str
    stimuli: StimulusSet
    subjects: Sequence[str]
    responses: Mapping[str, Sequence[np.ndarray]] | None = None
    rdms: Mapping[str, np.ndarray] | None = None
    sectors: Mapping[str, Sequence[Sector]] | None = None
    reliability: Mapping[str, Sequence[np.ndarray]] | None = None
    halves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]] | None = None
    unit: str = "a.u."
    space: str = "none"
    licence: str = ""
    citation: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        put = functools.partial(object.__setattr__, self)
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"a dataset's name must be a text; got {self.name!r}.")
        if not isinstance(self.stimuli, StimulusSet):
            raise ValueError(
                f"stimuli must be a StimulusSet; got {type(self.stimuli).__name__}. "
                "StimulusSet.from_folder and from_paths make one."
            )
        put("subjects", unique_names(self.subjects, "subjects"))
        check_space(self.space)
        if (self.responses is None) == (self.rdms is None):
            found = "neither" if self.rdms is None else "both"
            raise ValueError(
                f"a dataset must hold exactly one of responses and rdms; got {found}."
            )
        if self.responses is not None:
            put("responses", _checked_responses(self, self.responses))
        if self.rdms is not None:
            put("rdms", _checked_rdms(self, self.rdms))
        if self.sectors is not None:
            put("sectors", _checked_sectors(self, self.sectors))
            put("space", next(iter(self.sectors.values()))[0].space)
        if self.reliability is not None:
            put("reliability", _checked_reliability(self, self.reliability))
        if self.halves is not None:
            put("halves", _checked_halves(self, self.halves))

    def __reduce__(self) -> tuple[Any, ...]:
        # mapping proxies cannot be pickled, and read-only flags would be lost
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for field in ("responses", "rdms", "sectors", "reliability", "halves"):
            if values[field] is not None:
                values[field] = dict(values[field])
        return functools.partial(type(self), **values), ()

    def __repr__(self) -> str:
        people = "subject" if self.n_subjects == 1 else "subjects"
        parts = []
        for sector in self.sector_names:
            if self.responses is None:
                parts.append(f"{sector} (RDMs)")
                continue
            counts = [values.shape[1] for values in self.responses[sector]]
            low, high = min(counts), max(counts)
            parts.append(f"{sector} ({low if low == high else f'{low}-{high}'} voxels)")
        return (
            f"<BrainDataset {self.name!r}: {self.n_subjects} {people}, "
            f"{self.n_images} images, {listing(parts)}, space {self.space}>"
        )

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.subjects)

    @property
    def n_images(self) -> int:
        """Number of images."""
        return len(self.stimuli)

    @property
    def sector_names(self) -> tuple[str, ...]:
        """Names of the sectors, in their order."""
        return tuple(self._data)

    @property
    def has_responses(self) -> bool:
        """Whether there are voxel responses, and not RDMs only."""
        return self.responses is not None

    @property
    def _data(self) -> Mapping[str, Sequence[np.ndarray]]:
        """Per sector one array per subject, responses or RDMs alike."""
        return self.responses or {name: [*x] for name, x in (self.rdms or {}).items()}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over images, subjects, sector names and every value, halves too."""
        head = [self.stimuli.digest, self.subjects, self.sector_names]
        digest = hashlib.sha256(json.dumps([*head, self.has_responses]).encode())
        halves = [x for pairs in (self.halves or {}).values() for x in pairs]
        for per_subject in (*self._data.values(), *halves):
            for values in per_subject:
                digest.update(repr(values.shape).encode())
                digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def select(
        self,
        sectors: str | Sequence[str] | None = None,
        subjects: str | Sequence[str] | None = None,
    ) -> "BrainDataset":
        """Keep some sectors and subjects, in the order given.

        Parameters
        ----------
        sectors, subjects : str or sequence of str, optional
            What to keep; everything if not given. ``sub-01`` is subject 01.

        Returns
        -------
        dataset : BrainDataset
            The part. Values are shared, not copied.

        Raises
        ------
        ValueError
            If a name is unknown (with close matches), repeated, or none is given.
        """
        names, people = self.sector_names, self.subjects
        if sectors is not None:
            names = chosen_names(sectors, "sector", names)
        if subjects is not None:
            asked = [subjects] if isinstance(subjects, str) else subjects
            plain = [s if s in people else s.removeprefix("sub-") for s in asked]
            people = chosen_names(plain, "subject", people)
        rows = [list(self.subjects).index(subject) for subject in people]

        def part(data: Mapping[str, Any] | None) -> dict[str, Any] | None:
            if data is None:
                return None
            return {name: [data[name][row] for row in rows] for name in names}

        return replace(
            self,
            subjects=people,
            responses=part(self.responses),
            rdms=part(self.rdms),
            sectors=part(self.sectors),
            reliability=part(self.reliability),
            halves=part(self.halves),
        )

    def bad_voxels(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Count voxels that no model can be fitted to.

        Returns
        -------
        counts : dict of (sector, subject) to (n_nan, n_constant)
            Voxels with NaN or infinite values, and voxels with one value for all
            images; only sectors of subjects that have any.
        """
        counts = {}
        for sector, per_subject in (self.responses or {}).items():
            for subject, values in zip(self.subjects, per_subject, strict=True):
                broken, constant = bad_columns(values)
                pair = int(broken.sum()), int(constant.sum())
                if any(pair):
                    counts[sector, subject] = pair
        return counts

    def require_clean_voxels(self) -> None:
        """Refuse NaN and constant voxels, and values without a square.

        Raises
        ------
        ValueError
            If :meth:`bad_voxels` finds any, or values are in a unit so small or large
            that their squares are 0 or infinite; names sector, subject and counts.
        """
        found = [
            f"{sector} of subject {subject} has {n_nan} with NaN, {n_constant} constant"
            for (sector, subject), (n_nan, n_constant) in self.bad_voxels().items()
        ]
        if found:
            raise ValueError(
                f"responses of dataset {self.name!r} must be finite and vary over "
                f"images in every voxel; {'; '.join(found[:8])}"
                + (f"; and {len(found) - 8} more" if len(found) > 8 else "")
                + ". Pass drop_bad_voxels=True, or call dataset.drop_bad_voxels(), to "
                "leave these voxels out."
            )
        for sector, arrays in (self.responses or {}).items():
            for subject, values in zip(self.subjects, arrays, strict=True):
                _check_scale(values, f"responses[{sector!r}] of subject {subject}")

    def drop_bad_voxels(self) -> "BrainDataset":
        """Leave out the voxels that :meth:`bad_voxels` counts.

        Returns
        -------
        dataset : BrainDataset
            The dataset without these columns, and with masks without these voxels;
            the same object if there are none.

        Raises
        ------
        ValueError
            If a sector of a subject would be left without voxels.
        """
        counts = self.bad_voxels()
        if not counts or self.responses is None:
            return self
        responses = {name: list(items) for name, items in self.responses.items()}
        sectors = {name: list(items) for name, items in (self.sectors or {}).items()}
        known = {name: [*items] for name, items in (self.reliability or {}).items()}
        halves = {name: [*items] for name, items in (self.halves or {}).items()}
        for sector, subject in counts:
            row = list(self.subjects).index(subject)
            values = responses[sector][row]
            broken, constant = bad_columns(values)
            keep = ~(broken | constant)
            if not keep.any():
                raise ValueError(
                    f"sector {sector} of subject {subject} must keep at least one "
                    f"voxel; all {keep.size} have NaN or are constant. Leave it out "
                    "with dataset.select()."
                )
            responses[sector][row] = values[:, keep]
            if known:
                known[sector][row] = known[sector][row][keep]
            if halves:
                odd, even = halves[sector][row]
                halves[sector][row] = odd[:, keep], even[:, keep]
            if sectors:
                mask = sectors[sector][row].mask.copy()
                mask[mask] = keep
                sectors[sector][row] = replace(sectors[sector][row], mask=mask)
            logger.info(
                "%s: %d of %d voxels of %s of subject %s are left out.",
                self.name,
                keep.size - int(keep.sum()),
                keep.size,
                sector,
                subject,
            )
        return replace(
            self,
            responses=responses,
            sectors=sectors or None,
            reliability=known or None,
            halves=halves or None,
        )


def bad_columns(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which columns hold non-finite values, and which of the others are constant."""
    broken = ~np.isfinite(values).all(axis=0)
    return broken, (values == values[0]).all(axis=0) & ~broken


def check_images(values: np.ndarray, names: Sequence[str], what: str) -> None:
    """Refuse responses of which those to one image were never estimated.

    One voxel may well be 0; values that are all 0 or NaN are found as bad voxels.
    """
    if values.shape[1] > 1 and has_estimate(values):
        check_estimates(values, names, what)


def _check_scale(values: np.ndarray, what: str) -> None:
    """Refuse columns whose differences are too small or large to be squared."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused
        spread = np.ptp(values, axis=0)
    odd = ((spread > 0) & (spread < _SMALLEST)) | (spread > _LARGEST)
    odd &= np.isfinite(values).all(axis=0)  # what is not finite is counted later
    if odd.any():
        raise ValueError(
            f"{what} must be in a unit in which values differ by {_SMALLEST:g} to "
            f"{_LARGEST:g}; {np.count_nonzero(odd)} of {odd.size} columns differ by "
            f"{spread[odd][0]:.3g}, whose square a float64 does not hold. Scale them."
        )


def _float_view(values: Any, what: str) -> np.ndarray:
    """Read-only float64 view, or a copy where the type differs."""
    if np.ma.isMaskedArray(values) and np.ma.getmaskarray(values).any():
        raise ValueError(
            f"{what} must not be a masked array, whose mask would be lost; use "
            ".filled(numpy.nan) to mark the values as missing."
        )
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufO":
            raise TypeError(f"its type is {array.dtype}")
        view = array.astype(np.float64, copy=False).view()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be an array of numbers; {error}.") from error
    view.flags.writeable = False
    return view


def _check_per_subject(dataset: BrainDataset, values: Any, what: str) -> None:
    """Refuse anything but one item per subject."""
    if isinstance(values, (str, Mapping)) or not hasattr(values, "__len__"):
        raise ValueError(
            f"{what} must be a list with one entry per subject; got "
            f"{type(values).__name__}."
        )
    if len(values) != dataset.n_subjects:
        raise ValueError(
            f"{what} must hold one entry per subject; got {len(values)} for "
            f"{dataset.n_subjects} subjects."
        )


def _named(data: Any, what: str) -> dict[str, Any]:
    """A mapping from sector names, not empty."""
    if not isinstance(data, Mapping):
        raise ValueError(
            f"{what} must map sector names to data; got {type(data).__name__}."
        )
    unique_names(data, f"names of sectors in {what}")
    return dict(data)


def _checked_responses(
    dataset: BrainDataset, responses: Mapping[str, Any]
) -> Mapping[str, tuple[np.ndarray, ...]]:
    """Responses as read-only (n_images, n_voxels) arrays."""
    checked = {}
    for sector, items in _named(responses, "responses").items():
        arrays = []
        _check_per_subject(dataset, items, f"responses[{sector!r}]")
        for subject, values in zip(dataset.subjects, items, strict=True):
            what = f"responses[{sector!r}] of subject {subject}"
            if hasattr(values, "iloc"):  # a DataFrame, without importing pandas
                dataset.stimuli.check_same(values.index, what=f"the index of {what}")
            _check_labels(dataset, values, what)
            array = _float_view(values, what)
            if array.ndim != 2:
                raise ValueError(
                    f"{what} must be (n_images, n_voxels); got {array.shape}."
                )
            if array.shape[0] != dataset.n_images:
                turned = array.shape[1] == dataset.n_images
                raise ValueError(
                    f"{what} must have one row per image; got {array.shape[0]} "
                    f"conditions for {dataset.n_images} images."
                    + (" Is it transposed?" if turned else "")
                )
            if array.shape[1] == 0:
                raise ValueError(f"{what} must have at least one voxel; got none.")
            check_images(array, dataset.stimuli.names, what)
            arrays.append(array)
        checked[sector] = tuple(arrays)
    return MappingProxyType(checked)


def _checked_rdms(
    dataset: BrainDataset, rdms: Mapping[str, Any]
) -> Mapping[str, np.ndarray]:
    """RDMs as read-only finite (n_subjects, n_pairs) arrays."""
    n_images = dataset.n_images
    n_pairs = n_images * (n_images - 1) // 2
    checked = {}
    for sector, items in _named(rdms, "rdms").items():
        what = f"rdms[{sector!r}]"
        array = _float_view(_vectors(dataset, items, what), what)
        if array.shape != (dataset.n_subjects, n_pairs):
            raise ValueError(
                f"{what} must be (n_subjects, n_pairs), that is "
                f"({dataset.n_subjects}, {n_pairs}) for {n_images} images; got "
                f"{array.shape}."
            )
        for subject, rdm in zip(dataset.subjects, array, strict=True):
            n_bad = int(np.count_nonzero(~np.isfinite(rdm)))
            if n_bad:
                raise ValueError(
                    f"{what} must be finite; subject {subject} has {n_bad} of "
                    f"{n_pairs} pairs that are NaN or infinite."
                )
            _check_scale(rdm[:, None], f"{what} of subject {subject}")
        checked[sector] = array
    return MappingProxyType(checked)


def _vectors(dataset: BrainDataset, items: Any, what: str) -> Any:
    """RDMs as vectors: from an object of rsatoolbox, from squares, or as they are.

    Names of images and subjects that come with them must be those of the dataset, in
    the same order.
    """
    if is_rsatoolbox(items):
        named = items.rdm_descriptors.get("subject")
        if named is not None:
            _same_subjects(dataset, named, f"the descriptor 'subject' of {what}")
        return _of_rsatoolbox(dataset, items, what)
    if hasattr(items, "iloc") and items.index.dtype.kind not in "iu":
        _same_subjects(dataset, items.index, f"the index of {what}")
    if hasattr(items, "iloc") and items.columns.nlevels == 2:
        _same_pairs(dataset, items.columns, f"the columns of {what}")
    _check_labels(dataset, items, what)
    _check_per_subject(dataset, items, what)
    if hasattr(items, "iloc") or (isinstance(items, np.ndarray) and items.ndim != 3):
        return items
    found = []
    for subject, rdm in zip(dataset.subjects, items, strict=True):
        whose = f"{what} of subject {subject}"
        if is_rsatoolbox(rdm):
            rdm = _of_rsatoolbox(dataset, rdm, whose)
            if len(rdm) != 1:
                raise ValueError(f"{whose} must be one RDM; got {len(rdm)}.")
            rdm = rdm[0]
        elif _float_view(rdm, whose).ndim == 2:
            rdm = _of_square(dataset, rdm, whose)
        found.append(rdm)
    return found


def _of_rsatoolbox(dataset: BrainDataset, rdms: "RDMs", what: str) -> np.ndarray:
    """Vectors of an object of rsatoolbox with the names of the dataset's images."""
    names = dataset.stimuli.names
    named = pattern_names(rdms, names)
    if named and names not in named.values():
        descriptor, given = next(iter(named.items()))
        where = f"the pattern descriptor {descriptor!r} of {what}"
        dataset.stimuli.check_same(given, what=where)
    return np.asarray(rdms.get_vectors())


def _of_square(dataset: BrainDataset, square: Any, what: str) -> np.ndarray:
    """Pairs of a symmetric matrix with zeros on its diagonal."""
    if hasattr(square, "iloc"):  # a DataFrame, without importing pandas
        dataset.stimuli.check_same(square.index, what=f"the index of {what}")
        dataset.stimuli.check_same(square.columns, what=f"the columns of {what}")
    matrix = _float_view(square, what)
    n_images = dataset.n_images
    if matrix.shape != (n_images, n_images):
        raise ValueError(
            f"{what} must be (n_images, n_images), that is ({n_images}, {n_images}), "
            f"or a vector of its pairs; got {matrix.shape}."
        )
    slack = _ASYMMETRY * np.max(np.abs(matrix), initial=0.0, where=np.isfinite(matrix))
    if not np.allclose(matrix, matrix.T, rtol=0, atol=slack, equal_nan=True):
        raise ValueError(
            f"{what} must be symmetric; it differs from its transpose. Average the two "
            "halves, if that is meant."
        )
    if not (np.abs(np.diagonal(matrix)) <= slack).all():
        raise ValueError(
            f"{what} must have zeros on its diagonal; it has "
            f"{np.diagonal(matrix)[:3].tolist()} ... there. An RDM holds distances: "
            "1 - r, not r."
        )
    return matrix[np.triu_indices(n_images, k=1)]


def _check_labels(dataset: BrainDataset, values: Any, what: str) -> None:
    """Refuse an array of xarray whose own names are not those of the dataset."""
    if not (hasattr(values, "dims") and hasattr(values, "indexes")):
        return
    for dim in values.dims:
        index = values.indexes.get(dim)
        if index is None or index.dtype.kind in "iuf":
            continue  # counted, not named
        where = f"the coordinate {dim!r} of {what}"
        if set(map(str, index)) & set(dataset.subjects):
            _same_subjects(dataset, index, where)
        elif len(index) == dataset.n_images:
            dataset.stimuli.check_same(index, what=where)


def _same_pairs(dataset: BrainDataset, given: Any, what: str) -> None:
    """Refuse pairs of images that are others than those of ``pdist``."""
    expected = list(combinations(dataset.stimuli.names, 2))
    found = [tuple(map(str, pair)) for pair in given]
    if found != expected:
        row = next((n for n, pair in enumerate(zip(found, expected, strict=False))
                    if pair[0] != pair[1]), 0)  # fmt: skip
        raise ValueError(
            f"{what} must be the pairs of the images in the order of pdist, "
            f"{len(expected)}; got {len(found)}, and pair {row + 1} is "
            f"{found[row]} in place of {expected[row]}."
        )


def _same_subjects(dataset: BrainDataset, given: Any, what: str) -> None:
    """Refuse RDMs that name other subjects, or in another order."""
    found = tuple(str(name) for name in given)
    if found != tuple(dataset.subjects):
        raise ValueError(
            f"{what} must be the subjects of the dataset, {listing(dataset.subjects)}, "
            f"in this order; got {listing(found)}."
        )


def _beside_responses(
    dataset: BrainDataset, given: Mapping[str, Any], field: str
) -> Iterator[tuple[str, list[tuple[str, Any, np.ndarray]]]]:
    """Each sector with what goes with the responses of every subject in it: how an
    error calls it, what was given, and the responses."""
    if dataset.responses is None:
        raise ValueError(f"{field} must come with responses; rdms have no voxels.")
    named = _named(given, field)
    if set(named) != set(dataset.responses):
        raise ValueError(
            f"{field} must have the names of responses, "
            f"{listing(dataset.responses)}; got {listing(named)}."
        )
    for name, responses in dataset.responses.items():
        what = f"{field}[{name!r}]"
        _check_per_subject(dataset, named[name], what)
        rows = zip(dataset.subjects, named[name], responses, strict=True)
        yield name, [(f"{what} of subject {s}", one, values) for s, one, values in rows]


def _checked_reliability(
    dataset: BrainDataset, reliability: Mapping[str, Any]
) -> Mapping[str, tuple[np.ndarray, ...]]:
    """A correlation for every column of the responses."""
    checked = {}
    for name, rows in _beside_responses(dataset, reliability, "reliability"):
        arrays = []
        for what, given, values in rows:
            array = _float_view(given, what)
            if array.shape != values.shape[1:]:
                raise ValueError(
                    f"{what} must hold one correlation for each of the "
                    f"{values.shape[1]} voxels; got {array.shape}."
                )
            if (np.abs(array) > 1 + _ASYMMETRY).any():
                raise ValueError(
                    f"{what} must hold correlations, from -1 to 1; got "
                    f"{np.nanmax(np.abs(array)):.3g}."
                )
            arrays.append(array)
        checked[name] = tuple(arrays)
    return MappingProxyType(checked)


def _checked_halves(
    dataset: BrainDataset, halves: Mapping[str, Any]
) -> Mapping[str, tuple[tuple[np.ndarray, np.ndarray], ...]]:
    """Betas of odd and even runs for every voxel of the responses."""
    checked = {}
    for name, rows in _beside_responses(dataset, halves, "halves"):
        pairs = []
        for what, given, values in rows:
            arrays = [_float_view(half, what) for half in given]
            shapes = [array.shape for array in arrays]
            if shapes != [values.shape] * 2:
                raise ValueError(
                    f"{what} must be two arrays of the shape of the responses, "
                    f"{values.shape}; got {listing(map(str, shapes))}."
                )
            pairs.append((arrays[0], arrays[1]))
        checked[name] = tuple(pairs)
    return MappingProxyType(checked)


def _checked_sectors(
    dataset: BrainDataset, sectors: Mapping[str, Any]
) -> Mapping[str, tuple[Sector, ...]]:
    """Sectors that fit the responses, and one another."""
    checked = {}
    for name, rows in _beside_responses(dataset, sectors, "sectors"):
        for what, sector, values in rows:
            if not isinstance(sector, Sector):
                raise ValueError(
                    f"{what} must be a Sector; got {type(sector).__name__}."
                )
            if sector.name != name:
                raise ValueError(f"{what} must be called {name}; got {sector.name}.")
            if sector.n_voxels != values.shape[1]:
                raise ValueError(
                    f"{what} must have as many voxels as the responses have columns; "
                    f"got {sector.n_voxels} voxels for {values.shape[1]} columns."
                )
        checked[name] = tuple(sector for _, sector, _ in rows)
    spaces = sorted({item.space for items in checked.values() for item in items})
    if len(spaces) > 1:
        raise ValueError(
            f"sectors of a dataset must share one space; got {listing(spaces)}."
        )
    if dataset.space not in ("none", spaces[0]):
        raise ValueError(
            f"space must be that of the sectors, {spaces[0]}; got {dataset.space}."
        )
    for row, subject in enumerate(dataset.subjects):
        try:
            check_same_grid(items[row] for items in checked.values())
        except ValueError as error:
            raise ValueError(f"subject {subject}: {error}") from None
    return MappingProxyType(checked)
