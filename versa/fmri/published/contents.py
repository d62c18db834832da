"""What is in a downloaded archive: names, shapes and types, to write a mapping file."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from versa.fmri.published.files import ending, open_file, table_header
from versa.fmri.published.matlab import Unreadable
from versa.wording import listing, one_line

if TYPE_CHECKING:
    import os

    from pandas import DataFrame

_ASIDE = re.compile(r"\.unpacked\.old-\d")  # folders of earlier versions
IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FIRST = 3  # texts of a list, or columns of a table, that are shown


def archive_contents(folder: "str | os.PathLike[str]") -> "DataFrame":
    """List what is in an archive, so that a person can write its mapping file.

    Numbers of MATLAB 7.3 and HDF5 files are not read. Hidden files, and packages that
    were unpacked in earlier versions, are passed over.

    Parameters
    ----------
    folder : path-like
        The archive, unpacked.

    Returns
    -------
    contents : DataFrame
        One row per array, list of texts, table, volume and other file, and one per
        folder of images, in the order of the paths. Columns:

        - file: path in the archive;
        - key: as a mapping file names a part of a ``.mat``, ``.npz`` or HDF5 file,
          with indices that count from 0;
        - shape: lengths of the axes, such as ``"312 x 72"``; of a table, lines x
          columns; the number of images, or of texts;
        - type: such as ``float64``, ``text``, ``table`` or ``volume``; or why the file
          cannot be read;
        - begins: the first texts of a list, or names of columns.

    Raises
    ------
    ValueError
        If `folder` is not a folder.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.savez(folder / "sub-01.npz", V1=np.zeros((312, 72)), names=np.array(["cup"]))
    >>> archive_contents(folder)
             file    key     shape     type begins
    0  sub-01.npz     V1  312 x 72  float64
    1  sub-01.npz  names         1     text    cup
    """
    import pandas as pd

    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"the archive must be a folder; got {str(folder)!r}.")
    rows: list[tuple[str, str, tuple[int, ...], str, str]] = []
    images: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part[0] == "." or _ASIDE.search(part) for part in parts)
        if hidden or not path.is_file():
            continue
        file = "/".join(parts)
        if path.suffix.lower() in IMAGES:
            pattern = "/".join([*parts[:-1], f"*{path.suffix}"])
            images[pattern] = images.get(pattern, 0) + 1
            continue
        try:
            rows += [(file, *entry) for entry in _entries(path)]
        except (ImportError, OSError, ValueError) as error:
            reason = one_line(error).removeprefix(f"{path} ")
            rows.append((file, "", (), f"cannot be read: {reason}", ""))
    rows += [(pattern, "", (n,), "images", "") for pattern, n in images.items()]
    shown = [
        (file, key, " x ".join(map(str, shape)), kind, begins)
        for file, key, shape, kind, begins in rows
    ]
    columns = ["file", "key", "shape", "type", "begins"]
    return pd.DataFrame(shown, columns=columns)


def _entries(path: Path) -> Iterator[tuple[str, tuple[int, ...], str, str]]:
    """Key, shape, type and beginning of every part of a file."""
    kind = ending(path.name)
    if kind in (".mat", ".h5", ".hdf5", ".npz", ".npy", ".txt"):
        yield from _parts(open_file(path, load=False))
    elif kind in (".csv", ".tsv"):
        rows = open_file(path)
        yield "", (len(rows), len(rows[0])), "table", _beginning(table_header(rows))
    elif kind in (".nii", ".nii.gz"):
        from versa.fmri.volumes.nifti import read_grid

        yield "", read_grid(path)[0], "volume", ""
    elif kind in (".vmp", ".vtc", ".msk", ".vmp.gz", ".vtc.gz", ".msk.gz"):
        yield "", (), "volume of BrainVoyager", ""
    elif kind == ".voi":
        from versa.fmri.betas.brainvoyager import read_voi

        areas, space = read_voi(path)
        yield "", (len(areas),), f"areas in {space}", _beginning(areas)
    else:
        yield "", (), f"{path.stat().st_size} bytes", ""


def _parts(tree: Any, key: str = "") -> Iterator[tuple[str, tuple[int, ...], str, str]]:
    """Every array and text of a tree, in its order."""
    if isinstance(tree, Mapping):
        for name, item in tree.items():
            yield from _parts(item, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list) and all(isinstance(item, str) for item in tree):
        yield key, (len(tree),), "text", _beginning(tree)
    elif isinstance(tree, list):
        for index, item in enumerate(tree):
            yield from _parts(item, f"{key}[{index}]")
    elif isinstance(tree, str):
        yield key, (), "text", _beginning([tree])
    elif isinstance(tree, Unreadable):
        yield key, (), tree.kind, ""
    elif tree.dtype.kind == "U":
        yield key, tree.shape, "text", _beginning(tree.ravel().tolist())
    else:
        yield key, tree.shape, str(tree.dtype), ""


def _beginning(texts: Any) -> str:
    return listing((text[:40] for text in texts), limit=_FIRST)
