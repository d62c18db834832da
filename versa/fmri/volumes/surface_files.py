"""Files of the cortical surface: GIFTI, FreeSurfer and CIFTI, through nilearn."""

import glob
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from versa.fmri.volumes.nifti import check_stored
from versa.fmri.volumes.scaling import header_step, whole_labels
from versa.fmri.volumes.spaces import stated_side
from versa.untrusted import check_expansion, check_reader
from versa.wording import listing, reading

if TYPE_CHECKING:
    from nilearn.surface import PolyData

logger = logging.getLogger("versa")

_STRUCTURES = {
    "left": "CIFTI_STRUCTURE_CORTEX_LEFT",
    "right": "CIFTI_STRUCTURE_CORTEX_RIGHT",
}
_CIFTI = (".dscalar.nii", ".dtseries.nii", ".dlabel.nii")
_GIFTI = re.compile(r"\.gii(\.\w+)?$", re.IGNORECASE)  # maybe compressed
_WHOLE_CIFTI = "a whole CIFTI-2 file"
_CHUNK = 2**20
_ANNOTATION = """
    from nibabel.freesurfer import read_annot
    read_annot(sys.argv[1])
"""
_MORPHOMETRY = b"\xff\xff\xff"  # of lh.curv, lh.sulc, lh.thickness ...
_VERTEX_BYTES = 4  # of a value in a GIFTI file, float32 or int32
_NO_LABEL = {"???", "unknown", "background", "medial_wall", "medial wall"}


def read_hemispheres(
    left: str | Path | None = None, right: str | Path | None = None
) -> "PolyData":
    """Read data of the vertices of one or both hemispheres.

    Parameters
    ----------
    left, right : str or Path, optional
        A file per hemisphere, of any kind that nilearn reads: GIFTI (``.func.gii``,
        ``.shape.gii``, ``.label.gii``), FreeSurfer (``.mgz``, ``.annot``, ``.curv``
        ...).

    Returns
    -------
    data : nilearn.surface.PolyData
        Per hemisphere (n_vertices,) or (n_vertices, n_images); of label files the
        labels, whose names :func:`surface_label_names` gives.

    Raises
    ------
    ValueError
        If no file is given, one cannot be read, one is of the other hemisphere by its
        name (``hemi-L``, ``lh.``, ``.L.``, ``left`` ...) or by the structure that a
        GIFTI file states, its data are in other files, or the two differ in their
        number of images.

    References
    ----------
    https://nilearn.github.io/stable/modules/generated/nilearn.surface.PolyData.html
    """
    from nilearn.surface import PolyData

    files = {"left": left, "right": right}
    given = {side: Path(file) for side, file in files.items() if file is not None}
    if not given:
        raise ValueError("surface data must have a file for left, right, or both.")
    parts = {side: _read_vertices(path) for side, path in given.items()}
    for side, path in given.items():
        _check_side(path, side)
    shapes = {side: part.shape[1:] for side, part in parts.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "surface data must have as many images on both sides; "
            f"{given['left']} has {parts['left'].shape}, {given['right']} has "
            f"{parts['right'].shape} (vertices, images)."
        )
    return PolyData(**parts)


def read_cifti(path: str | Path) -> "PolyData":
    """Read the cortex of a dense CIFTI-2 file.

    Parameters
    ----------
    path : str or Path
        A ``.dscalar.nii``, ``.dtseries.nii`` or ``.dlabel.nii`` file.

    Returns
    -------
    data : nilearn.surface.PolyData
        Per hemisphere (n_vertices, n_images) for all vertices of the surface. Vertices
        that the file leaves out, mostly the medial wall, are NaN, or 0 in a
        ``.dlabel.nii`` file. Voxels below the cortex are left out.

    Raises
    ------
    ValueError
        If the file cannot be read, is of another kind, or has no cortical surface.

    References
    ----------
    https://www.nitrc.org/projects/cifti
    """
    from nibabel.cifti2 import BrainModelAxis, LabelAxis
    from nilearn.surface import PolyData

    path = Path(path)
    with _opened(path, "Cifti2Image", _WHOLE_CIFTI) as image:
        axes = [image.header.get_axis(number) for number in range(image.ndim)]
        if len(axes) != 2 or not isinstance(axes[1], BrainModelAxis):
            kinds = listing(type(axis).__name__ for axis in axes)
            raise ValueError(
                f"{path} must hold one value per image and vertex; its axes are "
                f"{kinds}."
            )
        values = np.asarray(image.dataobj)  # (n_images, n_places)
        if values.shape != tuple(map(len, axes)):
            raise ValueError(
                f"{path} must hold values of the shape that its axes have, "
                f"{tuple(map(len, axes))}; got {values.shape}."
            )
        is_label = isinstance(axes[0], LabelAxis)
        if is_label:
            values = whole_labels(values, f"labels of {path}", header_step(image))
        parts = _by_hemisphere(axes[1], values, np.int64(0) if is_label else np.nan)
        if not parts:
            raise ValueError(
                f"{path} must hold the left or right cortical surface; it holds "
                f"{listing(np.unique(axes[1].name))}."
            )
    cortical = np.isin(axes[1].name, [*_STRUCTURES.values()])
    if n_left_out := int(np.count_nonzero(~cortical)):
        logger.info("%s: %d places below the cortex are left out.", path, n_left_out)
    return PolyData(**parts)


def surface_label_names(path: str | Path) -> dict[int, str]:
    """Names of the labels of a surface file.

    Parameters
    ----------
    path : str or Path
        A ``.label.gii``, ``.annot`` or ``.dlabel.nii`` file. Of several maps in one
        CIFTI file the first counts.

    Returns
    -------
    names : dict of int to str
        For each label its name; without label 0 of GIFTI and CIFTI files, which means
        none, and without what is named unknown or medial wall.

    Raises
    ------
    ValueError
        If the file cannot be read or has no labels.
    """
    import nibabel

    path = Path(path)
    if path.name.endswith(_CIFTI):
        with _opened(path, "Cifti2Image", _WHOLE_CIFTI) as image:
            axis = image.header.get_axis(0)
            table = getattr(axis, "label", [{}])[0]
            names = {int(label): text for label, (text, _) in table.items() if label}
    elif path.suffix == ".annot":
        with reading(path, "an annotation of FreeSurfer"):
            check_reader(path, _ANNOTATION, "FreeSurfer")
            _, _, texts = nibabel.freesurfer.read_annot(path)
            names = {number: text.decode() for number, text in enumerate(texts)}
    else:
        with _opened(path, "GiftiImage", "a GIFTI file") as image:
            table = image.labeltable.get_labels_as_dict()
            names = {int(label): text or "" for label, text in table.items() if label}
    names = {
        label: text.strip()
        for label, text in names.items()
        if text.strip().lower() not in _NO_LABEL
    }
    if not names:
        raise ValueError(f"{path} must name its labels; it has none.")
    return names


def _read_vertices(path: Path) -> np.ndarray:
    """Data of one hemisphere, (n_vertices,) or (n_vertices, n_images)."""
    from nilearn.surface import load_surf_data

    if path.name.endswith(_CIFTI):
        raise ValueError(
            f"{path} must be a file of one hemisphere; it is CIFTI, which holds both. "
            "Read it by read_cifti."
        )
    if path.suffix == ".label":
        raise ValueError(
            f"{path} must hold a value for every vertex; a .label file is a list of "
            "vertices. Convert it to .annot or .label.gii."
        )
    with reading(path, "surface data"):
        _refuse_other_files(path)
        if path.suffix == ".annot":
            check_reader(path, _ANNOTATION, "FreeSurfer")
        # nilearn takes patterns; here [ and * are letters of a name
        values = load_surf_data(glob.escape(str(path)))
        _check_morphometry(path, len(values))
    if values.ndim not in (1, 2) or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} must hold numbers (n_vertices,) or (n_vertices, n_images); got "
            f"{values.dtype} of {values.shape}."
        )
    return values


def _check_morphometry(path: Path, n_values: int) -> None:
    """Refuse a file of FreeSurfer such as lh.curv that has lost its end."""
    with open(path, "rb") as file:
        head = file.read(7)
    if head.startswith(_MORPHOMETRY):
        stated = int.from_bytes(head[3:], "big")
        if n_values != stated:
            raise ValueError(f"it announces {stated} vertices and has {n_values}")


def _check_side(path: Path, side: str) -> None:
    """Refuse a file that says that it is of the other hemisphere."""
    for said in (path.name, _stated_structure(path)):
        if said and stated_side(said, of_file=True) not in (None, side):
            raise ValueError(
                f"{path} is given as the {side} hemisphere and must be of it; it says "
                f"{said}. Exchange left and right, or correct the file."
            )


def _stated_structure(path: Path) -> str | None:
    """Structure that a GIFTI file says it is of, before its data or first array."""
    from nibabel.openers import Opener

    if not _GIFTI.search(path.name):
        return None
    name = None
    with reading(path, "a GIFTI file"), Opener(str(path)) as file:
        for event, element in ElementTree.iterparse(file, ("start", "end")):
            if event == "start" and element.tag == "Data":
                return None
            text = (element.text or "").strip()
            if event == "end" and element.tag == "Name":
                name = text
            elif (event, name) == ("end", "AnatomicalStructurePrimary"):
                return text  # of the Value that follows the Name
    return None


def _refuse_other_files(path: Path) -> None:
    """Refuse a GIFTI file whose data are in other files, which could be any file, or
    would fill the memory."""
    from nibabel.openers import Opener

    if not _GIFTI.search(path.name):
        return

    n_bytes = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal n_bytes
        if tag == "DataArray":
            sizes = [int(attributes.get(f"Dim{axis}", 1)) for axis in range(6)]
            n_bytes += _VERTEX_BYTES * math.prod(sizes)
            check_expansion(path, n_bytes)
        other = attributes.get("ExternalFileName", "").strip()
        if other or attributes.get("Encoding") == "ExternalFileBinary":
            raise ValueError(
                f"{path} must hold its data itself; its {tag} names the file {other!r} "
                "for them, which is never opened. Convert it to GZipBase64Binary."
            )

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    with Opener(str(path)) as file:
        while chunk := file.read(_CHUNK):
            parser.Parse(chunk)


def _by_hemisphere(
    models: Any, values: np.ndarray, empty: Any
) -> dict[str, np.ndarray]:
    """Values (n_vertices, n_images) per side, by the places of a CIFTI file."""
    parts = {}
    for side, structure in _STRUCTURES.items():
        # not by runs of equal names: a structure may come in several pieces
        here = np.flatnonzero((models.name == structure) & (models.vertex >= 0))
        if here.size:
            shape = int(models.nvertices[structure]), len(values)
            parts[side] = np.full(shape, empty)
            parts[side][models.vertex[here]] = values[:, here].T
    return parts


@contextmanager
def _opened(path: Path, kind: str, rule: str) -> Iterator[Any]:
    """An image of nibabel of one kind; every error within becomes one sentence."""
    import nibabel

    if kind == "Cifti2Image" and not path.name.endswith(_CIFTI):
        raise ValueError(
            f"{path} must be a dense CIFTI-2 file, {listing(_CIFTI)}; its name ends in "
            "something else."
        )
    with reading(path, rule):
        _refuse_other_files(path)
        image = nibabel.load(path)
        if type(image).__name__ != kind:
            raise ValueError(f"{path} must be {rule}; it is a {type(image).__name__}.")
        if kind == "Cifti2Image":
            check_stored(path, image)
        yield image
