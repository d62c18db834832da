"""MATLAB files of every version as plain dicts, lists, arrays and texts.

One content gives one tree, whether it was saved as version 4, 5, 7 or 7.3:

- a struct is a dict; a struct array and a cell array are lists (a list of rows if
  both axes are longer than 1), an empty one is ``[]``;
- numbers and logicals are arrays with MATLAB's own axes, at least two: nothing is
  squeezed, so one voxel stays an axis of length 1 (pymatreader squeezes it away), and
  doubles are float64 even where the file packs them into bytes;
- one line of characters is a text, a character matrix a list of texts without the
  blanks that pad them.

Objects, function handles, sparse and complex arrays become an :class:`Unreadable`, so
that they do not keep the rest of a file from being read.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from versa.untrusted import check_expansion, check_own, load_mat, open_hdf5
from versa.wording import reading

_NUMBERS = frozenset(
    ["double", "single", "logical"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_MOST_PARTS = 100_000  # cells, structs and arrays of a file, as it is read
_DTYPES = {"double": "float64", "single": "float32", "logical": "bool"}


@dataclass(frozen=True)
class Unreadable:
    """Something in a file that is neither numbers nor texts."""

    kind: str  # such as "a function handle"


def read_struct(path: Path, *, load: bool = True) -> dict[str, Any]:
    """Variables of a MATLAB file, or of another HDF5 file, as a tree.

    An HDF5 file that MATLAB did not write is read as it is stored, without exchange of
    axes. Without `load`, numbers of HDF5 files are not read: their arrays have shape
    and type only.
    """
    import h5py

    with reading(path, "a whole MATLAB or HDF5 file"):
        if not h5py.is_hdf5(path):
            return _version5_tree(path)
        with open_hdf5(path) as file:
            reader = _Hdf5Reader(path, load)
            items = [_opened(item) for item in file.values()]
            by_matlab = file.userblock_size > 0 or any(
                "MATLAB_class" in item.attrs for item in items
            )
            value = reader.version73 if by_matlab else reader.plain
            names = [name for name in file if not name.startswith("#")]
            return {name: value(file[name]) for name in names}


def _sequence(shape: tuple[int, ...], items: list[Any]) -> Any:
    """A cell or struct array: a list, or a list of rows; `items` are in C order."""
    if len(shape) > 2 and sum(length > 1 for length in shape) > 1:
        return Unreadable(f"a cell or struct array with {len(shape)} axes")
    if len(shape) == 2 and min(shape) > 1:
        width = shape[1]
        return [items[i : i + width] for i in range(0, len(items), width)]
    return items


def _texts(rows: list[str]) -> str | list[str]:
    """One line of characters as it stands, several without the padding."""
    if len(rows) > 1:
        return [row.rstrip(" ") for row in rows]
    return rows[0] if rows else ""


# ---- versions 4 to 7 ------------------------------------------------------------


def _version5_tree(path: Path) -> dict[str, Any]:
    def variables(content: Mapping[str, Any]) -> dict[str, Any]:
        found = {name: item for name, item in content.items() if name[:2] != "__"}
        return {name: _version5_value(item) for name, item in found.items()}

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        content = load_mat(path, mat_dtype=True)
    is_complex = False
    for warning in caught:
        if issubclass(warning.category, np.exceptions.ComplexWarning):
            is_complex = True  # scipy has dropped imaginary parts
        else:
            # scipy goes on with a text in place of a variable it cannot read
            raise ValueError(str(warning.message))
    tree = variables(content)
    if is_complex:
        tree = _marked(tree, variables(load_mat(path, mat_dtype=False)))
    return tree


def _version5_value(value: Any) -> Any:
    """A value as loadmat returns it, as part of a tree."""
    from scipy.io.matlab import MatlabFunction, MatlabObject, MatlabOpaque
    from scipy.sparse import issparse

    if value is None:  # a struct without fields
        return {}
    if issparse(value):
        return Unreadable("a sparse array")
    if isinstance(value, MatlabFunction):
        return Unreadable("a function handle")
    if isinstance(value, MatlabObject | MatlabOpaque):
        return Unreadable("an object")
    if value.dtype.names is not None:
        items = [
            {name: _version5_value(record[name]) for name in value.dtype.names}
            for record in value.ravel()
        ]
        return items[0] if value.size == 1 else _sequence(value.shape, items)
    if value.dtype == object:
        items = [_version5_value(item) for item in value.ravel()]
        fieldless = value.size == 1 and value.ravel()[0] is None
        return items[0] if fieldless else _sequence(value.shape, items)
    if value.dtype.kind == "U":
        if value.ndim > 1:
            return Unreadable("a character array with more than two axes")
        return _texts([str(row) for row in value])
    if value.dtype.kind == "c":
        return Unreadable("a complex array")
    return value.astype(value.dtype.newbyteorder("="), copy=False)


def _marked(tree: Any, faithful: Any) -> Any:
    """`tree` with what is complex in `faithful` marked as unreadable."""
    if isinstance(faithful, Unreadable):
        return faithful
    if isinstance(tree, dict):
        return {name: _marked(tree[name], faithful[name]) for name in tree}
    if isinstance(tree, list):
        return [_marked(one, two) for one, two in zip(tree, faithful, strict=True)]
    return tree


# ---- version 7.3, and other HDF5 files ------------------------------------------


def _opened(item: Any) -> Any:
    """A group or dataset; refused if it is neither, such as a link to nowhere."""
    import h5py

    if not isinstance(item, h5py.Group | h5py.Dataset):
        raise ValueError("some of its parts cannot be opened")
    check_own(item)
    return item


@dataclass
class _Hdf5Reader:
    """Makes a tree of an HDF5 file, and counts what would come out of it."""

    path: Path
    load: bool
    n_parts: int = 0
    n_bytes: int = 0
    known: dict[int, tuple[Any, int]] = field(default_factory=dict)

    def _count(self, item: Any, n_parts: int = 1) -> None:
        """Refuse a file whose references make far more of it than it holds."""
        self.n_parts += n_parts
        if self.n_parts > _MOST_PARTS:
            raise ValueError(
                f"{self.path} must have at most {_MOST_PARTS} parts; its references "
                "make more, or lead in a circle."
            )
        self.n_bytes += getattr(item, "nbytes", 0) if self.load else 0
        check_expansion(self.path, self.n_bytes)

    def version73(self, item: Any) -> Any:
        """A group or dataset that MATLAB wrote, as part of a tree."""
        import h5py

        place = h5py.h5o.get_info(_opened(item).id).addr
        if place not in self.known:  # many references to one part cost no time
            before = self.n_parts
            self._count(item)
            value = self._version73(item)
            self.known[place] = value, self.n_parts - before
        else:
            self._count(item, self.known[place][1])
        return self.known[place][0]

    def _version73(self, item: Any) -> Any:
        """The same, of a part that was not yet read."""
        import h5py

        kind = _opened(item).attrs.get("MATLAB_class", b"")
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        if "MATLAB_sparse" in item.attrs:
            return Unreadable("a sparse array")
        if kind == "function_handle":
            return Unreadable("a function handle")
        if isinstance(item, h5py.Group):
            if kind not in ("", "struct") or "MATLAB_object_decode" in item.attrs:
                return Unreadable(f"an object ({kind})")
            return self._struct(item)
        if kind == "canonical empty":
            return np.zeros((0, 0))
        if not kind:
            return Unreadable("an array that MATLAB did not write")
        if kind not in _NUMBERS | {"char", "cell", "struct"}:
            return Unreadable(f"an object ({kind})")
        if item.attrs.get("MATLAB_empty"):  # the dataset holds the shape
            shape = tuple(int(length) for length in np.ravel(item[()]))
            fieldless = kind == "struct" and all(length == 1 for length in shape)
            if kind in _NUMBERS:
                return np.zeros(shape, dtype=_DTYPES.get(kind, kind))
            return {} if fieldless else "" if kind == "char" else []
        if kind in ("cell", "struct"):
            if item.dtype != h5py.ref_dtype:
                return Unreadable(f"a {kind} array without references")
            return _sequence(item.shape[::-1], self._targets(item))
        if item.dtype.names is not None:
            return Unreadable("a complex array")
        if kind == "char":
            if item.ndim > 2:
                return Unreadable("a character array with more than two axes")
            codes = np.atleast_2d(item[()].T).astype("<u2")
            return _texts(
                [row.tobytes().decode("utf-16-le", "replace") for row in codes]
            )
        if not self.load:
            return _hollow(item.shape[::-1], _DTYPES.get(kind, kind))
        values = item[()].T
        return (
            values != 0 if kind == "logical" else values.astype(_DTYPES.get(kind, kind))
        )

    def _struct(self, group: Any) -> Any:
        """A struct, or a struct array, whose fields are datasets of references."""
        import h5py

        fields = [name for name in group if not name.startswith("#")]
        order = [
            b"".join(letters).decode()
            for letters in group.attrs.get("MATLAB_fields", ())
        ]
        if sorted(order) == sorted(fields):
            fields = order
        items = [_opened(group[name]) for name in fields]
        if not fields or not all(
            isinstance(item, h5py.Dataset)
            and item.dtype == h5py.ref_dtype
            and "MATLAB_class" not in item.attrs
            for item in items
        ):
            values = [self.version73(item) for item in items]
            return dict(zip(fields, values, strict=True))
        columns = [self._targets(item) for item in items]
        rows = [
            dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)
        ]
        return _sequence(items[0].shape[::-1], rows)

    def _targets(self, item: Any) -> list[Any]:
        """What a dataset of references points to, in C order of MATLAB's axes."""
        return [self.version73(item.file[ref]) for ref in item[()].T.ravel()]

    def plain(self, item: Any) -> Any:
        """A group or dataset that MATLAB did not write, as it is stored."""
        import h5py

        self._count(item)
        if isinstance(_opened(item), h5py.Group):
            return {name: self.plain(part) for name, part in item.items()}
        if h5py.check_string_dtype(item.dtype) is not None:
            texts = item.asstr()[()]
            return texts if isinstance(texts, str) else texts.tolist()
        if item.dtype.kind not in "biuf":
            return Unreadable(f"an array of type {item.dtype}")
        return np.asarray(item[()]) if self.load else _hollow(item.shape, item.dtype)


def _hollow(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array with shape and type that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype=dtype), shape)
