"""Sectors from atlases: by the names of their regions, in a space that is known."""

import inspect
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from versa.cache import offline
from versa.fmri.sectors.labels import (
    read_label_table,
    region_list,
    table_columns,
    whole_number,
)
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.grids import onto_grid
from versa.fmri.volumes.nifti import open_image, read_image
from versa.fmri.volumes.scaling import header_step, whole_labels
from versa.fmri.volumes.spaces import FORM_SPACES, check_space
from versa.wording import listing, one_line, unknown

logger = logging.getLogger("versa")

_BACKGROUND = {"background", "unknown", "???", "clear label", "unlabeled"}
# What nilearn's fetchers do not say themselves.
_TEMPLATES = {"juelich": "MNI152NLin6Asym"}  # of FSL, as harvard_oxford
# Options of nilearn's fetchers that do not choose an atlas.
_PLUMBING = ("data_dir", "url", "base_url", "resume", "verbose", "mirror")
_SPACE_IN_NAME = re.compile(r"(?:^|_)(?:space|tpl)-([A-Za-z0-9]+)_")
_SUBJECTS_OWN = {"individual", "t1w", "t2w", "func", "boldref", "orig", "native"}


@dataclass(frozen=True, eq=False)
class _Atlas:
    """What atlases of all formats have in common."""

    maps: Any  # image of nibabel, (x, y, z) or (x, y, z, n_maps)
    path: Path | None
    names: dict[int, str]  # of labels, or of maps; without the background
    space: str | None
    title: str

    @property
    def probabilistic(self) -> bool:
        """Whether there is one map per region."""
        return len(self.maps.shape) == 4 and self.maps.shape[3] > 1


def label_names(atlas: Any, *, table: Any = None) -> dict[int, str]:
    """Regions of an atlas.

    Parameters
    ----------
    atlas : mapping, str, Path or image
        Same as in :func:`atlas_sector`.
    table : str, Path or mapping, optional
        Same as in :func:`atlas_sector`.

    Returns
    -------
    names : dict of int to str
        For each label of the image, or each map of a probabilistic atlas (from 0), the
        name of its region; without the background.

    Raises
    ------
    ValueError
        If it is not known which label has which name.

    Examples
    --------
    >>> import nibabel
    >>> image = nibabel.Nifti1Image(np.array([[[0, 1, 2]]], dtype="uint8"), np.eye(4))
    >>> label_names({"maps": image, "labels": ["Background", "V1", "V2"]})
    {1: 'V1', 2: 'V2'}
    """
    return dict(_opened(atlas, table).names)


def atlas_sector(
    atlas: Any,
    names: str | int | Iterable[str | int],
    *,
    name: str,
    space: str | None = None,
    table: Any = None,
    threshold: float | None = None,
    like: tuple[tuple[int, ...], np.ndarray] | None = None,
    resample: str | None = None,
) -> Sector:
    """Voxels of some regions of an atlas.

    Parameters
    ----------
    atlas : mapping, str, Path or image
        What a fetcher of nilearn gives, or a mapping with its `maps` and `labels` (or
        `lut`), `template` if known; or the label image itself, or its path.
    names : str, int or iterable of these
        Names of regions, or labels of the image (of a probabilistic atlas: numbers of
        maps, from 0). A name that several labels have stands for all of them.
    name : str
        Name of the sector.
    space : str, optional
        Space of the sector. Needed if the atlas does not say its own: in its
        `template`, in the name of the file (``space-`` or ``tpl-``) or in the form
        code of the image. Of an atlas in MNI space it may be another variant of MNI152,
        such as that of the data: a message says so, and no voxel is moved for it.
    table : str, Path or mapping, optional
        Which label has which name: a dict, or a file. A ``.tsv`` or ``.csv`` file has
        the columns `index` and `name` (as in BIDS) or `value` and `label`; a ``.txt``
        or ``.lut`` file is of FreeSurfer (number, name, color), of FSLeyes (number,
        color, name) or of ITK-SNAP; an ``.xml`` file is of FSL. By default the ``.tsv``
        file of the same name beside an image.
    threshold : float, optional
        For a probabilistic atlas: voxels belong to a region from this value on, in
        the unit of the maps (atlases of FSL: percent).
    like : (shape, affine), optional
        The grid of the sector; by default that of the atlas.
    resample : {"nearest", "linear"}, optional
        How, if the grids differ in more than the order of voxels: "nearest", or for
        probabilities before the threshold also "linear". By default that is refused.

    Returns
    -------
    sector : Sector
        In `space` if given, else in the space of the atlas.

    Raises
    ------
    ValueError
        If a region or the space is unknown, the atlas is in another space (Talairach,
        MNI, a subject's own), a threshold is missing, or the grids differ.

    Examples
    --------
    >>> import nibabel
    >>> image = nibabel.Nifti1Image(np.array([[[0, 1, 2]]], dtype="uint8"), np.eye(4))
    >>> atlas = {"maps": image, "labels": {1: "V1", 2: "V2"}, "template": "MNI152"}
    >>> atlas_sector(atlas, ["V1", "V2"], name="EarlyV")
    <Sector EarlyV: 2 of 1 x 1 x 3 voxels, MNI152>
    """
    opened = _opened(atlas, table)
    decided = _decided_space(opened, space)
    wanted = _labels_of(opened, names)
    labels = list(dict.fromkeys(label for found in wanted.values() for label in found))
    what = f"atlas {opened.title}"
    affine = np.asarray(opened.maps.affine, dtype=float)
    if opened.probabilistic:
        if not (isinstance(threshold, Real) and threshold > 0):
            raise ValueError(
                f"{what} is probabilistic, with one map per region: threshold must be "
                f"a number above 0; got {threshold!r}. Maps of FSL are in percent, "
                "others mostly in 0..1."
            )
        image = _voxels(opened)[..., labels]
    else:
        if threshold is not None or resample == "linear":
            raise ValueError(
                f"{what} has one label per voxel: threshold and resample='linear' are "
                "for probabilities. Leave them out, or pass resample='nearest'."
            )
        whole = _label_image(opened)
        for region, found in wanted.items():
            if not any((whole == label).any() for label in found):
                raise ValueError(
                    f"{what} must have voxels of {region!r}; its image has none with "
                    f"the label {listing(found)}."
                )
        image = np.isin(whole, labels)
    if like is not None:
        shape, target = like
        which = f"{listing(map(repr, wanted))} of {what}"
        image = onto_grid(image, affine, shape, target, what=which, resample=resample)
        affine = np.asarray(target, dtype=float)
    if opened.probabilistic:
        image = (image.astype(np.float64) >= threshold).any(axis=-1)
    mask = np.asarray(image, dtype=bool)
    if not mask.any():
        limit = f" from {threshold:g} on" if threshold else ""
        raise ValueError(
            f"{what} must have voxels of {listing(map(repr, wanted))}{limit}; there "
            "are none."
        )
    return Sector(name, mask, affine, decided)


def fetch_atlas(name: str, **options: Any) -> Mapping[str, Any]:
    """An atlas for :func:`atlas_sector`, downloaded or cached by nilearn.

    `name` is what follows ``fetch_atlas_`` in the name of nilearn's function; after a
    colon, its first option: "yeo_2011", "schaefer_2018:200". `options` are its others.
    """
    from nilearn import datasets

    prefix = "fetch_atlas_"
    known = [n.removeprefix(prefix) for n in dir(datasets) if n.startswith(prefix)]
    key, colon, choice = name.partition(":")
    if key not in known:
        raise ValueError(unknown("atlas", key, known))
    fetcher = getattr(datasets, prefix + key)
    allowed = list(inspect.signature(fetcher).parameters)
    for option in options:
        if option not in allowed:
            raise ValueError(unknown(f"option of atlas {key}", option, allowed))
    if colon:
        choices = [option for option in allowed if option not in _PLUMBING]
        if not choices:
            raise ValueError(f"atlas {key} has nothing to choose; got {name!r}.")
        value = int(choice) if choice.isdecimal() else choice
        options = {choices[0]: value, **options}
    if offline():
        raise ConnectionError(
            f"atlas {key} must be asked for over the network, which VERSA_OFFLINE "
            "forbids. Pass the path of its label image to atlas_sector instead."
        )
    try:
        atlas = fetcher(**options)
    except OSError as error:
        raise ConnectionError(
            f"atlas {key} cannot be downloaded: {one_line(error)}. Try "
            "again later, or pass the path of its label image to atlas_sector."
        ) from error
    if _stated_template(atlas) is None and key in _TEMPLATES:
        atlas["template"] = _TEMPLATES[key]
    return atlas


def _opened(atlas: Any, table: Any) -> _Atlas:
    """An atlas of any form, with the names of its regions; reads no voxels yet."""
    import nibabel

    parts = dict(atlas) if isinstance(atlas, Mapping) else {"maps": atlas}
    if "maps" not in parts:
        surface = "map_left" in parts or "map_right" in parts
        raise ValueError(
            f"an atlas must have `maps`, an image; got {listing(parts) or 'nothing'}."
            + (
                " For regions of a surface use versa.fmri.sectors.surface_responses."
                if surface
                else ""
            )
        )
    maps, title = parts["maps"], str(parts.get("name", "image"))
    path = Path(maps) if isinstance(maps, str | Path) else None
    if path is not None:
        title = path.name
        with open_image(path) as maps:  # its header; the voxels are read later
            pass
        beside = path.with_name(re.sub(r"\.nii(\.gz)?$", ".tsv", path.name))
        if table is None and not {"lut", "labels"} & set(parts) and beside.is_file():
            table = beside
    if not isinstance(maps, nibabel.spatialimages.SpatialImage):
        raise ValueError(
            f"maps of atlas {title} must be an image of voxels or its path; got "
            f"{type(maps).__name__}."
        )
    if len(maps.shape) not in (3, 4):
        raise ValueError(
            f"maps of atlas {title} must be (x, y, z) or (x, y, z, n_maps); got "
            f"{maps.shape}."
        )
    opened = _Atlas(maps, path, {}, _stated_space(parts, maps, title), title)
    if table is not None:
        parts = {"labels": table if isinstance(table, Mapping) else Path(table)}
    return replace(opened, names=_names_of(parts, opened))


def _voxels(atlas: _Atlas) -> np.ndarray:
    """Labels or probabilities of an atlas."""
    if atlas.path is not None:
        return read_image(atlas.path)[0]  # refuses a cut file in a sentence
    return np.asanyarray(atlas.maps.dataobj)


def _names_of(parts: Mapping[str, Any], atlas: _Atlas) -> dict[int, str]:
    """Names of labels or maps, whatever their form; without the background."""
    labels = parts.get("labels")
    if isinstance(labels, str | Path):
        labels = read_label_table(labels)
    if atlas.probabilistic:
        return _names_of_maps(labels, atlas)
    names: Mapping[Any, Any]
    if parts.get("lut") is not None:
        names = _names_by_label(parts["lut"])
    elif labels is None:
        names = {}
    elif isinstance(labels, Mapping):
        names = labels
    elif _is_table(labels):
        names = _names_by_label(labels)
    else:
        names = _names_in_order([str(name).strip() for name in labels], atlas)
    texts = {int(label): str(name).strip() for label, name in names.items()}
    return {
        label: name
        for label, name in texts.items()
        if label != 0 and name.lower() not in _BACKGROUND
    }


def _names_of_maps(labels: Any, atlas: _Atlas) -> dict[int, str]:
    """Names of the maps of a probabilistic atlas, in order."""
    n_maps = atlas.maps.shape[3]
    if labels is None:
        return {number: f"map {number}" for number in range(n_maps)}
    if isinstance(labels, Mapping):
        labels = [labels[key] for key in sorted(labels)]
    elif _is_table(labels):  # whose rows are the maps, whatever index they have
        labels = labels[table_columns(["index", *labels.columns])[1]]
    texts = [str(name).strip() for name in labels]
    if len(texts) == n_maps + 1 and texts[0].lower() in _BACKGROUND:
        texts = texts[1:]
    if len(texts) != n_maps:
        raise ValueError(
            f"labels of atlas {atlas.title} must be one per map; got {len(texts)} for "
            f"{n_maps} maps."
        )
    return dict(enumerate(texts))


def _names_in_order(names: list[str], atlas: _Atlas) -> dict[int, str]:
    """Names without labels: the first is that of label 0, or of label 1."""
    largest = int(_label_image(atlas).max())
    with_background = bool(names) and names[0].lower() in _BACKGROUND
    if with_background and largest < len(names):
        return dict(enumerate(names))
    if not with_background and largest == len(names):
        return dict(enumerate(names, start=1))
    raise ValueError(
        f"labels of atlas {atlas.title} must say which label has which name: "
        f"{len(names)} names, the first {names[0] if names else 'missing'!r}, do not "
        f"fit labels up to {largest}. Pass table={{label: name}}."
    )


def _is_table(labels: Any) -> bool:
    return hasattr(labels, "columns")


def _names_by_label(table: Any) -> dict[Any, Any]:
    """Names of a DataFrame that has a column of labels."""
    index, name = table_columns(table.columns)
    return dict(zip(table[index], table[name], strict=True))


def _label_image(atlas: _Atlas) -> np.ndarray:
    """Labels (x, y, z) of an atlas, which may be stored as floats."""
    image = _voxels(atlas)
    image = image[..., 0] if image.ndim == 4 else image
    step = header_step(atlas.maps)
    return whole_labels(image, f"labels of atlas {atlas.title}", step)


def _labels_of(atlas: _Atlas, regions: Any) -> dict[Any, list[int]]:
    """For each region, given by name or label, its labels or numbers of maps."""
    wanted: dict[Any, list[int]] = {}
    for region in region_list(regions):
        if isinstance(region, str):
            if not atlas.names:
                raise ValueError(
                    f"atlas {atlas.title} must have names to find {region!r}; it has "
                    "none. Pass table= (a file, or {label: name})."
                )
            found = [label for label, text in atlas.names.items() if text == region]
            if not found:
                names = list(dict.fromkeys(atlas.names.values()))
                raise ValueError(unknown(f"region of {atlas.title}", region, names))
            wanted[region] = found
            continue
        number = whole_number(region)
        last = atlas.maps.shape[3] - 1 if atlas.probabilistic else None
        if number is None or (number == 0 if last is None else not 0 <= number <= last):
            rule = (
                "whole numbers other than 0, the background"
                if last is None
                else f"maps from 0 to {last}"
            )
            raise ValueError(
                f"names for atlas {atlas.title} must be names of regions, or {rule}; "
                f"got {region!r}."
            )
        wanted[region] = [number]
    if not wanted:
        raise ValueError(f"names for atlas {atlas.title} must be one or more.")
    return wanted


def _stated_template(atlas: Mapping[str, Any]) -> str | None:
    """Template that an atlas of nilearn names; it marks unknown ones by a '?'."""
    template = atlas.get("template")
    return None if template is None or "?" in str(template) else str(template)


def _stated_space(parts: Mapping[str, Any], maps: Any, title: str) -> str | None:
    """Space of an atlas as it says itself, in words of Sector where they exist."""
    template = _stated_template(parts)
    if template is None and (match := _SPACE_IN_NAME.search(title)):
        template = match[1]
    if template is not None:
        return "TAL" if template.lower() in ("talairach", "tal") else template
    if "template" in parts or not hasattr(maps, "header"):
        return None
    codes = [int(maps.header.get(f"{form}_code", 0)) for form in ("sform", "qform")]
    return FORM_SPACES.get(codes[0] or codes[1])


def _decided_space(atlas: _Atlas, space: str | None) -> str:
    """Space of the sector: that of the atlas, or the one that the caller states."""
    stated = atlas.space
    known = stated is not None and (stated == "TAL" or stated.startswith("MNI152"))
    if space is None:
        if known and stated is not None:
            return stated
        said = f"it says {stated!r}" if stated else "it does not say it"
        raise ValueError(
            f"the space of atlas {atlas.title} must be TAL or MNI152...; {said}. Pass "
            "space= if you know that its coordinates are those."
        )
    check_space(space)
    families = _family(stated), _family(space)
    if stated is not None and None not in families and families[0] != families[1]:
        raise ValueError(
            f"atlas {atlas.title} is in space {stated}, not {space!r}, and "
            "resampling cannot do it. Transform the atlas or the data first."
        )
    same = stated is None or stated == space or families[0] == "individual"
    if not same and not (known and "MNI152" in (stated, space)):
        logger.warning(
            "atlas %s says that its space is %s; it is taken as %s, as asked.",
            atlas.title,
            stated,
            space,
        )
    return space


def _family(space: str | None) -> str | None:
    """Talairach, MNI, a subject's own space or none; None for what is unknown."""
    if space is None or space in ("TAL", "none"):
        return space
    if space.lower() in _SUBJECTS_OWN:
        return "individual"
    return "MNI" if space.startswith("MNI") else None
