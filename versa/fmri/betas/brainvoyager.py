"""BrainVoyager's files, read with bvbabel: volumes, maps of betas and VOIs.

Volumes are turned so that their axes grow to the right, to the front and upwards, and
get the affine that their header implies. BrainVoyager's own axes are X from front to
back, Y from top to bottom and Z from right to left, counted from a corner of the cube
that frames the VMR. The origin of mm coordinates is in the middle of the cube: ``x =
128 - Z``, ``y = 128 - X``, ``z = 128 - Y`` in the usual cube of 256 voxels of 1 mm. In
the neurological convention Z grows from left to right, and ``x = Z - 128``. See
https://helpdesk.brainvoyager.com/081923-What-coordinate-systems-are-used-within-BrainVoyager

Voxel k of a file with a start and a resolution (VTC, VMP, MSK) is centred at ``start +
resolution * k``. So does NeuroElf, which also samples functional data there when it
makes VTCs as BrainVoyager does (https://github.com/neuroelf/neuroelf-matlab, functions
bvcoordconv and vmr_CreateVTC). BrainVoyager's VOI time courses count the VMR voxels
from there to ``start + resolution * (k + 1) - 1`` as this voxel; their middle is
(resolution - 1) / 2 mm further to the back, the bottom and the left. So at 3 mm places
are certain to 1 mm.
"""

import contextlib
import gzip
import importlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.sectors.sector import Sector
from versa.fmri.volumes.spaces import check_space
from versa.fmri.volumes.voxels import (
    PathLike,
    Volume,
    empty_volumes,
    gather_voxels,
    refuse_empty,
)
from versa.wording import listing, reading, unique_names, unknown

logger = logging.getLogger("versa")

_SPACES = {1: "individual", 2: "individual", 3: "TAL", 4: "MNI152"}
_SPACE_KEYS = (
    "ReferenceSpaceVMR",
    "Reference space (0:unknown, 1:native, 2:ACPC, 3:Tal, 4:MNI)",
)
_CONVENTIONS = {1: "radiological", 2: "neurological"}
_CONVENTION_KEYS = (
    "LeftRightConvention",
    "L-R convention (0:unknown, 1:radiological, 2:neurological)",
)
_UNSAID = {
    "space": "in which space it is; pass it as space=, such as 'TAL', 'MNI152' or "
    "'individual' (native and AC-PC)",
    "convention": "where left is; pass convention='radiological' (BrainVoyager's "
    "standard) or 'neurological'",
}
_RESOLUTION_KEYS = ("Resolution", "VTC resolution relative to VMR (1, 2, or 3)")
_VOI_SPACES = {"TAL": "TAL", "MNI": "MNI152", "BV": None}
_VTC_HEADER = 1 << 16  # bytes; a VTC starts with two file names and 30 bytes
_CUBE = 256  # voxels of 1 mm: the frame of a VMR in Talairach or MNI space
_NATIVE_VMP = -1582119980  # first four bytes of a VMP that keeps its own resolution
_CROSS_CORRELATION = 3  # type of a map that packs a lag and a correlation in one value


@dataclass(frozen=True, eq=False, repr=False)
class BrainVoyagerImage:
    """Volumes of a file; their axes grow to the right, to the front and upwards."""

    values: np.ndarray  # (x, y, z) or (x, y, z, n_images), in the type of the file
    affine: np.ndarray  # (4, 4), from voxel indices to mm
    space: str
    names: tuple[str, ...] = ()  # of the maps of a VMP
    header: Mapping[str, Any] = field(default_factory=dict)  # as bvbabel reads it

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.values.shape))
        return f"<BrainVoyagerImage: {shape}, {self.space}>"

    def sector(self, name: str, least: float | None = None) -> Sector:
        """The mask of an MSK file as a sector: the voxels that are not 0, or those
        from the value `least` on."""
        mask = self.values != 0 if least is None else self.values >= least
        inside = self.values[mask]
        if mask.ndim != 3 or (least is None and (inside != inside[:1]).any()):
            raise ValueError(
                f"sector {name}: the image must be one mask (x, y, z) of 0 and one "
                f"other value; got {self.values.shape}, with values from "
                f"{self.values.min():g} to {self.values.max():g}. Choose its voxels by "
                "a threshold first."
            )
        return Sector(name, mask, self.affine, self.space)


def read_volumes(
    path: str | os.PathLike[str],
    *,
    space: str | None = None,
    convention: str | None = None,
    vmr: str | os.PathLike[str] | None = None,
) -> BrainVoyagerImage:
    """Read a VTC, VMP, MSK or VMR file.

    Parameters
    ----------
    path : path-like
        A file whose name ends in ``.vtc``, ``.vmp``, ``.msk`` or ``.vmr``, or in one of
        these and ``.gz``.
    space : str, optional
        Where the data are, see :class:`~versa.Sector`. Needed where the
        files do not say it: VMP and MSK never do. Native and AC-PC space are
        ``"individual"``.
    convention : {"radiological", "neurological"}, optional
        Whether Z grows from right to left (radiological, BrainVoyager's standard) or
        from left to right. Needed where the files do not say it: VMP and MSK never do.
    vmr : path-like, optional
        The VMR the file belongs to. Its space and convention hold for the file, too;
        its voxel size and framing cube are needed unless these are 1 mm and 256, and
        always in native and AC-PC space.

    Returns
    -------
    image : BrainVoyagerImage
        With values of the type of the file, held once.

    Raises
    ------
    ValueError
        If the file is missing, of another kind or damaged; if its space, convention or
        frame is not known; or if what is stated contradicts the files.
    ImportError
        If bvbabel is not installed.

    References
    ----------
    Brain Innovation, the formats of VTC, NR-VMP and VMR files,
    https://support.brainvoyager.com/brainvoyager/automation-development/84-file-formats
    """
    path = Path(path)
    kind, header, values = read_file(path, ("vtc", "vmp", "msk", "vmr"))
    _check_maps(path, header)
    of_vmr: Mapping[str, Any] = {}
    if vmr is not None and kind != "vmr":
        _, of_vmr, _ = read_file(vmr, ("vmr",))
    headers = {path.name: header, "its VMR": of_vmr}
    said = _said(headers, _SPACES, _SPACE_KEYS)
    stated = _agreed(path, "space", {**said, "space=": space})
    said = _said(headers, _CONVENTIONS, _CONVENTION_KEYS)
    side = _agreed(path, "convention", {**said, "convention=": convention})
    cube, sizes = _frame(path, header if kind == "vmr" else of_vmr, header, stated)
    if kind == "vmr":
        starts, step = [header.get(f"Offset{axis}", 0) for axis in "XYZ"], 1
    else:
        starts = [header[f"{axis}Start"] for axis in "XYZ"]
        step = _first(header, _RESOLUTION_KEYS)
    # bvbabel gives BrainVoyager's axes as (Z, X, Y), each from its end to its start
    values = np.asarray(values)
    order = (2, 0, 1)
    affine = np.eye(4)
    for axis, bv in enumerate(order):
        last = starts[bv] + step * (values.shape[axis] - 1)
        if starts[bv] < 0 or last >= cube:
            raise ValueError(
                f"{path} must be in a frame of {cube} voxels; along {'XYZ'[bv]} it "
                f"goes from {starts[bv]} to {last}. Pass the VMR it belongs to as vmr=."
            )
        affine[axis, axis] = step * sizes[bv]
        affine[axis, 3] = (cube / 2 - last) * sizes[bv]
    if side == "neurological":  # Z grows to the right by itself
        values = values[::-1]
        affine[0, 3] = (starts[2] - cube / 2) * sizes[2]
    names = tuple(str(item["MapName"]) for item in header.get("Map", ()))
    return BrainVoyagerImage(values, affine, stated, names, header)


def read_vmp(
    paths: PathLike | Sequence[PathLike],
    *,
    subject: str,
    conditions: Sequence[str] | None = None,
    space: str | None = None,
    convention: str | None = None,
    vmr: PathLike | None = None,
    mask: PathLike | None = None,
    unit: str = "a.u.",
) -> ConditionBetas:
    """Read betas from maps of BrainVoyager (.vmp).

    Parameters
    ----------
    paths : path-like, or sequence of path-like
        The files. The names of their maps are the conditions, each name once.
    subject : str
        Label such as ``"01"``.
    conditions : sequence of str, optional
        Which maps to read, and their order; by default all.
    space, convention, vmr : optional
        See :func:`read_volumes`: a VMP does not say in which space it is, and which
        side is left.
    mask : path-like, optional
        NIfTI image of the voxels to read; by default all.
    unit : str, default="a.u."
        Unit of the maps.

    Returns
    -------
    betas : ConditionBetas
        Voxels that are 0 in all maps are not in its mask.

    Raises
    ------
    ValueError
        If a file is missing or damaged, or its maps are on another grid.
    ImportError
        If bvbabel is not installed.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    what = f"maps of subject {subject} ({listing(Path(path).name for path in files)})"
    images = [
        read_volumes(path, space=space, convention=convention, vmr=vmr)
        for path in files
    ]
    spaces = sorted({image.space for image in images})
    if len(spaces) != 1:
        raise ValueError(
            f"{what} must share one space; got {listing(spaces) or 'no file'}."
        )
    maps = [
        (
            name,
            image.values if image.values.ndim == 3 else image.values[..., row],
            image,
        )
        for image in images
        for row, name in enumerate(image.names)
    ]
    options = [name for name, _, _ in maps]
    wanted = list(dict.fromkeys(options) if conditions is None else conditions)
    unique_names(wanted, f"names of {what}")
    for name in wanted:
        if options.count(name) != 1:
            raise ValueError(
                f"map {name!r} of subject {subject} must occur once; it occurs "
                f"{options.count(name)} times among {listing(options)}."
            )
    chosen = [maps[options.index(name)] for name in wanted]

    def read() -> Iterator[Volume]:
        for name, volume, image in chosen:
            yield f"map {name}", 0, volume, image.affine

    refuse_empty(empty_volumes(read, mask=mask), wanted, f"maps of subject {subject}")
    values, inside, affine = gather_voxels(read, mask=mask)
    return ConditionBetas(
        subject,
        tuple(wanted),
        values,
        inside,
        affine,
        spaces[0],
        unit=unit,
        source=f"BrainVoyager maps of {listing(Path(path).name for path in files)}",
    )


def read_voi(
    path: str | os.PathLike[str],
    *,
    space: str | None = None,
    convention: str | None = None,
) -> tuple[dict[str, np.ndarray], str]:
    """Read the voxels of a VOI file.

    Parameters
    ----------
    path : path-like
        A file whose name ends in ``.voi`` or ``.voi.gz``.
    space : str, optional
        See :func:`read_volumes`. Needed if the file counts in BrainVoyager's own axes
        (its reference space is BV); else refused if it contradicts the file.
    convention : {"radiological", "neurological"}, optional
        See :func:`read_volumes`. Needed if the file counts in BrainVoyager's own axes
        and does not say it.

    Returns
    -------
    coordinates : dict of str to ndarray of float64, shape (n_voxels, 3)
        For each VOI its voxels in mm, in the order of the file, each once. A VOI may
        have none.
    space : str
        The space of the coordinates.

    Raises
    ------
    ValueError
        If the file is missing or damaged, has two VOIs of one name, or if its space or
        convention is not known.
    ImportError
        If bvbabel is not installed.
    """
    path = Path(path)
    _, header, vois = read_file(path, ("voi",))
    reference = str(header.get("ReferenceSpace")).upper()
    if reference not in _VOI_SPACES:
        raise ValueError(
            f"{path} must list its voxels in {listing(_VOI_SPACES)}; its reference "
            f"space is {reference}. Save it in one of these spaces."
        )
    stated = _agreed(
        path, "space", {path.name: _VOI_SPACES[reference], "space=": space}
    )
    coordinates = _voi_voxels(path, header, vois)
    if reference != "BV":
        return coordinates, stated
    said = _said({path.name: header}, _CONVENTIONS, _CONVENTION_KEYS)
    side = _agreed(path, "convention", {**said, "convention=": convention})
    middle = float(header["OriginalVMRFramingCubeDim"]) / 2
    offsets, sizes = (
        np.array([float(header[f"OriginalVMR{part}{axis}"]) for axis in "XYZ"])
        for part in ("Offset", "Resolution")
    )
    signs = [-1 if side == "neurological" else 1, 1, 1]
    for name, voxels in coordinates.items():
        from_middle = (
            middle - offsets - voxels
        ) * sizes  # along X, Y, Z of BrainVoyager
        coordinates[name] = from_middle[:, [2, 0, 1]] * signs
    return coordinates, stated


def voi_sector(
    name: str,
    coordinates: ArrayLike,
    shape: tuple[int, ...],
    affine: np.ndarray,
    space: str,
) -> Sector:
    """Put the voxels of a VOI onto the grid of functional data.

    Parameters
    ----------
    name : str
        Name of the sector.
    coordinates : array-like of shape (n_points, 3)
        In mm, of :func:`read_voi`, in `space`.
    shape : tuple of int
        Shape of the data; only the first three axes count.
    affine : ndarray of shape (4, 4)
        Affine of the data.
    space : str
        The space of both. Pass it to :func:`read_voi`, too, which checks it.

    Returns
    -------
    sector : Sector
        The voxels whose centres are closest to a point of the VOI; a point half-way
        between two goes to the right, the front and the top, as in BrainVoyager's own
        VOI time courses at 2 mm. Points outside the data are left out, with a message.

    Raises
    ------
    ValueError
        If the VOI has no point in the data.

    Examples
    --------
    >>> affine = np.diag([3.0, 3, 3, 1])
    >>> sector = voi_sector("V1", [[0, 6, 0], [1, 6, 0]], (4, 4, 4), affine, "TAL")
    >>> sector.coordinates
    array([[0., 6., 0.]])
    """
    points = np.asarray(coordinates, dtype=np.float64).reshape(-1, 3)
    nudged = points + 1e-3  # mm: decides ties alike wherever the axes point
    indices = np.rint(
        np.linalg.solve(affine[:3, :3], (nudged - affine[:3, 3]).T).T
    ).astype(int)
    inside = ((indices >= 0) & (indices < np.array(shape[:3]))).all(axis=1)
    if not inside.any():
        raise ValueError(
            f"VOI {name} must have voxels in the data; none of its {len(points)} is. "
            "Check that both are in the same space."
        )
    if not inside.all():
        logger.warning(
            "VOI %s: %d of %d voxels are outside the data and are left out.",
            name,
            int((~inside).sum()),
            len(points),
        )
    mask = np.zeros(shape[:3], dtype=bool)
    mask[tuple(indices[inside].T)] = True
    return Sector(name, mask, affine, space)


def read_file(
    path: str | os.PathLike[str], kinds: Sequence[str]
) -> tuple[str, dict[str, Any], Any]:
    """Kind (one of `kinds`), header and data of a file, as bvbabel reads them."""
    path = Path(path)
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if kind not in kinds:
        raise ValueError(
            f"the file must be of kind {listing(kinds)}, by the end of its name; got "
            f"{path.name}."
        )
    with reading(path, f"a whole {kind.upper()} file"):
        try:
            module = importlib.import_module(f"bvbabel.{kind}")
        except ImportError as error:
            raise ImportError(
                "reading BrainVoyager's files needs bvbabel, which is not installed. "
                'Install it with: pip install "versa-fmri[brainvoyager]".'
            ) from error
        read = getattr(module, f"read_{kind}")
        with unpacked(path) as plain:
            if kind in ("vtc", "vmp", "vmr"):
                _check_texts(read, plain, _VTC_HEADER if kind == "vtc" else -1)
            header, data = read(plain)
        if not header or getattr(data, "size", 1) == 0:
            raise ValueError("it is empty")
    return kind, header, data


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give a packed file a plain copy for a while; a plain file is given as it is."""
    if path.suffix.lower() != ".gz":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        with gzip.open(path) as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target)
        yield plain


def _check_texts(read: Callable[..., Any], path: Path, n_bytes: int) -> None:
    """Refuse a file cut within a text of its header, where bvbabel reads for ever."""
    # read once with an end of text behind the header: an error within the header goes
    # on; an error at the data tells that all texts end
    with tempfile.TemporaryDirectory() as folder:
        head = Path(folder) / path.name
        with path.open("rb") as source:
            head.write_bytes(source.read(n_bytes) + b"\0")
        with contextlib.suppress(ValueError):
            read(head)


def _first(header: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """Value of the first of `keys` that the header has, or None."""
    return next((header[key] for key in keys if key in header), None)


def _said(
    headers: Mapping[str, Mapping[str, Any]],
    meanings: Mapping[int, str],
    keys: tuple[str, ...],
) -> dict[str, str | None]:
    """What each header says under one of `keys`; None where it says nothing."""
    return {who: meanings.get(_first(one, keys)) for who, one in headers.items()}


def _agreed(path: Path, what: str, claims: Mapping[str, str | None]) -> str:
    """What all who say one agree on; a variant of MNI152 is more exact than MNI152."""
    said = {who: value for who, value in claims.items() if value is not None}
    if not said:
        raise ValueError(f"{path} does not say {_UNSAID[what]}.")
    for value in said.values():
        if what == "space":
            check_space(value)
        elif value not in _CONVENTIONS.values():
            raise ValueError(unknown("convention", value, _CONVENTIONS.values()))
    agreed = max(said.values(), key=len)
    if any(not agreed.startswith(value) for value in said.values()):
        listed = ", ".join(f"{who} says {value!r}" for who, value in said.items())
        raise ValueError(
            f"{path} must have one {what}; {listed}. Correct what is wrong."
        )
    return agreed


def _check_maps(path: Path, header: Mapping[str, Any]) -> None:
    """Refuse maps whose values are not what they seem."""
    if header.get("NR-VMP identifier", _NATIVE_VMP) != _NATIVE_VMP:
        raise ValueError(
            f"{path} must be a VMP of native resolution; it is another or an older "
            "kind. Save it with a current BrainVoyager first."
        )
    for item in header.get("Map", ()):
        if item["TypeOfMap"] == _CROSS_CORRELATION:
            raise ValueError(
                f"{path} must hold one value per voxel; its map {item['MapName']} "
                "packs a lag and a correlation in one. Save them as maps of their own."
            )


def _frame(
    path: Path, vmr: Mapping[str, Any], header: Mapping[str, Any], space: str
) -> tuple[int, list[float]]:
    """Side of the cube around a VMR in voxels, and their sizes along X, Y, Z in mm."""
    of_file = [header.get(f"Dim{axis}") for axis in "XYZ"]  # of its VMR: only a VMP
    if vmr:
        cube = int(vmr.get("FramingCubeDim", _CUBE))
        sizes = [float(vmr[f"VoxelSize{axis}"]) for axis in "XYZ"]
        if not (cube > 0 and min(sizes) > 0):
            raise ValueError(
                f"{path}: its VMR must have a frame and voxels with a size; got a "
                f"frame of {cube} voxels of {listing(sizes)} mm."
            )
        # a frame is named, but a map may have the size of the VMR inside it
        of_vmr = [vmr.get(f"Dim{axis}") for axis in "XYZ"]
        if of_file not in ([None] * 3, [cube] * 3, of_vmr):
            raise ValueError(
                f"{path} must belong to its VMR; it belongs to one of "
                f"{listing(of_file)} voxels, and vmr= has a frame of {cube}. Pass the "
                "VMR on which the map was made."
            )
        return cube, sizes
    if space == "individual":
        raise ValueError(
            f"{path} must have its VMR to have a place in native or AC-PC space, where "
            "frames and voxels have any size. Pass the VMR as vmr=."
        )
    if of_file not in ([None] * 3, [_CUBE] * 3):
        raise ValueError(
            f"{path} belongs to a VMR of {listing(of_file)} voxels and does not say "
            "how large they are. Pass the VMR as vmr=."
        )
    return _CUBE, [1.0, 1.0, 1.0]


def _voi_voxels(
    path: Path, header: Mapping[str, Any], vois: list[dict[str, Any]]
) -> dict[str, np.ndarray]:
    """Voxels of each VOI as listed, each once, if the file is whole."""
    names = [str(voi["NameOfVOI"]) for voi in vois]
    if len(vois) != header.get("NrOfVOIs"):
        raise ValueError(
            f"{path} must be whole: it announces {header.get('NrOfVOIs')} VOIs and "
            f"has {len(vois)}."
        )
    unique_names(names, f"{path}: names of VOIs")
    result = {}
    for name, voi in zip(names, vois, strict=True):
        voxels = np.asarray(voi["Coordinates"], dtype=np.float64).reshape(-1, 3)
        if len(voxels) != voi.get("NrOfVoxels"):
            raise ValueError(
                f"{path} must be whole: VOI {name} announces {voi.get('NrOfVoxels')} "
                f"voxels and has {len(voxels)}."
            )
        first = np.unique(voxels, axis=0, return_index=True)[1]
        result[name] = voxels[np.sort(first)]
    return result
