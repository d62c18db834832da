"""MATLAB files of every version as plain dicts, lists, arrays and texts.

One content gives one tree, whether it was saved as version 4, 5, 7 or 7.3:

- a struct is a dict; a struct array and a cell array are lists (a list of rows if
  both axes are longer than 1), an empty one is ``[]``;
- numbers and logicals are arrays with MATLAB's own axes, at least two: nothing is
  squeezed, so one voxel stays an axis of length 1, and doubles are float64 even where
  the file packs them into bytes;
- one line of characters is a text, a character matrix a list of texts without the
  blanks that pad them.

Objects, function handles, sparse and complex arrays become an :class:`Unreadable`, so
that they do not keep the rest of a file from being read; :func:`take` refuses them.

A key such as ``SECTORS.Betas.EarlyV[3]`` names a part of a tree. Its indices count
from 0: ``[3]`` is MATLAB's ``{4}`` or ``(4)``.
"""

import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from versa.wording import listing, unknown

__all__ = ["ArrayEntry", "Unreadable", "list_arrays", "read_struct", "take", "walk"]

_NUMBERS = frozenset(
    ["double", "single", "logical"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_DTYPES = {"double": "float64", "single": "float32", "logical": "bool"}
# what scipy and h5py raise on files that are damaged, or of another program: FSL's
# FLIRT writes its matrices as .mat, too
_FAULTS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NameError,  # and UnboundLocalError
    OSError,
    RuntimeError,  # and NotImplementedError, RecursionError
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Unreadable:
    """Something in a file that is neither numbers nor texts.

    Parameters
    ----------
    kind : str
        What it is, such as ``"a function handle"``.
    """

    kind: str


class ArrayEntry(NamedTuple):
    """One array or list of texts in a file."""

    key: str
    shape: tuple[int, ...]
    dtype: str


def read_struct(path: Path) -> dict[str, Any]:
    """Read a MATLAB file, or another HDF5 file, as a tree.

    Parameters
    ----------
    path : Path
        A ``.mat`` file of any version. An HDF5 file that MATLAB did not write is read
        as it is stored, without exchange of axes.

    Returns
    -------
    tree : dict
        The variables by name; the head of this module says what they become.

    Raises
    ------
    ValueError
        If the file is missing, damaged, or of another kind.

    Examples
    --------
    >>> import scipy.io, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "betas.mat"
    >>> scipy.io.savemat(path, {"S": {"roi": "V1", "betas": [[1.0, 2.0]]}})
    >>> read_struct(path)
    {'S': {'roi': 'V1', 'betas': array([[1., 2.]])}}
    """
    return _read(path, load=True)


def list_arrays(path: Path) -> list[ArrayEntry]:
    """List what :func:`take` can take out of a file.

    Parameters
    ----------
    path : Path
        As in :func:`read_struct`. The numbers of a version 7.3 file are not read.

    Returns
    -------
    entries : list of ArrayEntry
        Key, shape and type of every array, in the order of the file. A text, and a
        list of texts, is one entry of type ``"text"``; what cannot be read has its
        kind for a type.

    Raises
    ------
    ValueError
        As in :func:`read_struct`.

    Examples
    --------
    >>> import scipy.io, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "betas.mat"
    >>> scipy.io.savemat(path, {"S": {"rois": ["V1", "V2"], "betas": [[1.0, 2.0]]}})
    >>> for entry in list_arrays(path):
    ...     print(*entry)
    S.rois (2,) text
    S.betas (1, 2) float64
    """
    return list(walk(_read(path, load=False)))


def walk(tree: Any, key: str = "") -> Iterator[ArrayEntry]:
    """Every array and text of a tree.

    Parameters
    ----------
    tree : dict, list, ndarray or str
        As :func:`read_struct` returns it, or a part of it.
    key : str, default=""
        The key of the part.

    Yields
    ------
    entry : ArrayEntry
        In the order of the tree.

    Examples
    --------
    >>> list(walk({"betas": [np.zeros((2, 3))]}))
    [ArrayEntry(key='betas[0]', shape=(2, 3), dtype='float64')]
    """
    if isinstance(tree, Mapping):
        for name, item in tree.items():
            yield from walk(item, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list):
        if tree and all(isinstance(item, str) for item in tree):
            yield ArrayEntry(key, (len(tree),), "text")
            return
        for index, item in enumerate(tree):
            yield from walk(item, f"{key}[{index}]")
    elif isinstance(tree, str):
        yield ArrayEntry(key, (), "text")
    elif isinstance(tree, Unreadable):
        yield ArrayEntry(key, (), tree.kind)
    else:
        yield ArrayEntry(key, tuple(tree.shape), str(tree.dtype))


def take(tree: Any, key: str, what: str = "the file") -> Any:
    """Take one part out of a tree.

    Parameters
    ----------
    tree : dict, list, ndarray or str
        As :func:`read_struct` returns it.
    key : str
        Names joined by dots, and indices in brackets that count from 0.
    what : str, default="the file"
        How messages call the tree.

    Returns
    -------
    part : dict, list, ndarray or str
        The part; lists are indexed, arrays are not.

    Raises
    ------
    ValueError
        If there is no such part (with close matches), or it cannot be read.

    Examples
    --------
    >>> take({"Betas": {"EarlyV": ["first", "second"]}}, "Betas.EarlyV[1]")
    'second'
    """
    part, done, rest = tree, "", key
    while rest:
        if isinstance(part, Mapping):
            name = _first_name(part, rest)
            if name is None:
                sought = re.split(r"[.\[]", rest, maxsplit=1)[0]
                raise ValueError(
                    f"{what}: {unknown(f'field of {done or what}', sought, part)}"
                )
            part, step = part[name], name
        elif isinstance(part, list) and (index := re.match(r"\[(\d+)\]", rest)):
            step = index[0]
            if int(index[1]) >= len(part):
                raise ValueError(
                    f"{what}: the index of {done}{step} must be below {len(part)}, "
                    "counted from 0."
                )
            part = part[int(index[1])]
        else:
            raise ValueError(
                f"{what}: {done or 'the whole'} is {_kind(part)}, which has no part "
                f"{rest!r}; the key is {key!r}."
            )
        done += f".{step}" if done and not step.startswith("[") else step
        rest = rest[len(step) :].removeprefix(".")
    if isinstance(part, Unreadable):
        raise ValueError(
            f"{what}: {done} must be numbers or texts; it is {part.kind}. Save it in "
            "MATLAB as a plain array, struct or cell array of these."
        )
    return part


def _first_name(names: Mapping[str, Any], rest: str) -> str | None:
    """The longest name that the rest of a key begins with: names may hold dots."""
    fitting = [
        name
        for name in names
        if rest == name or (rest.startswith(name) and rest[len(name)] in ".[")
    ]
    return max(fitting, key=len, default=None)


def _kind(part: Any) -> str:
    """What a part of a tree is, in words."""
    if isinstance(part, list):
        return f"a list of {len(part)}"
    if isinstance(part, Mapping):
        return f"a struct of {listing(part)}"
    if isinstance(part, str):
        return f"the text {part[:40]!r}"
    if isinstance(part, Unreadable):
        return part.kind
    return f"an array {part.shape}"


def _read(path: Path, load: bool) -> dict[str, Any]:
    """The tree of a file; without `load`, arrays may lack their numbers."""
    import h5py
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise ValueError(f"{path} must exist; it is missing.")
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return _hdf5_tree(file, load)
        return _version5_tree(path)
    except (MatReadError, *_FAULTS) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path} must be a whole MATLAB or HDF5 file; reading it fails with: "
            f"{reason.rstrip('.')}."
        ) from error


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
    """Variables of a file that is not HDF5."""
    from scipy.io import loadmat

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        content = loadmat(path, mat_dtype=True)
    is_complex = False
    for warning in caught:
        if issubclass(warning.category, np.exceptions.ComplexWarning):
            is_complex = True  # scipy has dropped imaginary parts
        else:
            # scipy goes on with a text in place of a variable it cannot read
            raise ValueError(str(warning.message))
    tree = _variables(content)
    if is_complex:
        tree = _marked(tree, _variables(loadmat(path, mat_dtype=False)))
    return tree


def _variables(content: Mapping[str, Any]) -> dict[str, Any]:
    """What loadmat returns, without what it adds."""
    return {
        name: _version5_value(value)
        for name, value in content.items()
        if not name.startswith("__")
    }


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


def _hdf5_tree(file: Any, load: bool) -> dict[str, Any]:
    """Variables of an HDF5 file."""
    for item in file.values():
        _check_item(item)
    by_matlab = file.userblock_size > 0 or any(
        "MATLAB_class" in item.attrs for item in file.values()
    )
    value = _version73_value if by_matlab else _plain_value
    return {name: value(item, load) for name, item in file.items() if name[:1] != "#"}


def _check_item(item: Any) -> None:
    """Refuse what is neither a group nor a dataset, such as a link to nowhere."""
    import h5py

    if not isinstance(item, h5py.Group | h5py.Dataset):
        raise ValueError("some of its parts cannot be opened")


def _version73_value(item: Any, load: bool) -> Any:
    """A group or dataset that MATLAB wrote, as part of a tree."""
    import h5py

    _check_item(item)
    kind = item.attrs.get("MATLAB_class", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if "MATLAB_sparse" in item.attrs:
        return Unreadable("a sparse array")
    if kind == "function_handle":
        return Unreadable("a function handle")
    if isinstance(item, h5py.Group):
        if kind not in ("", "struct") or "MATLAB_object_decode" in item.attrs:
            return Unreadable(f"an object ({kind})")
        return _version73_struct(item, load)
    if kind == "canonical empty":
        return np.zeros((0, 0))
    if not kind:
        return Unreadable("an array that MATLAB did not write")
    if kind not in _NUMBERS | {"char", "cell", "struct"}:
        return Unreadable(f"an object ({kind})")
    if item.attrs.get("MATLAB_empty"):
        return _empty(kind, tuple(int(length) for length in np.ravel(item[()])))
    if kind in ("cell", "struct"):
        if item.dtype != h5py.ref_dtype:
            return Unreadable(f"a {kind} array without references")
        return _sequence(item.shape[::-1], _targets(item, load))
    if item.dtype.names is not None:
        return Unreadable("a complex array")
    if kind == "char":
        if item.ndim > 2:
            return Unreadable("a character array with more than two axes")
        codes = np.atleast_2d(item[()].T).astype("<u2")
        return _texts([row.tobytes().decode("utf-16-le", "replace") for row in codes])
    if not load:
        return _hollow(item.shape[::-1], _DTYPES.get(kind, kind))
    values = item[()].T
    return values != 0 if kind == "logical" else values.astype(_DTYPES.get(kind, kind))


def _version73_struct(group: Any, load: bool) -> Any:
    """A struct, or a struct array, whose fields are datasets of references."""
    import h5py

    fields = [name for name in group if not name.startswith("#")]
    order = [
        "".join(map(_letter, name)) for name in group.attrs.get("MATLAB_fields", ())
    ]
    if sorted(order) == sorted(fields):
        fields = order
    arrays = [
        isinstance(group[name], h5py.Dataset)
        and group[name].dtype == h5py.ref_dtype
        and "MATLAB_class" not in group[name].attrs
        for name in fields
    ]
    if not fields or not all(arrays):
        return {name: _version73_value(group[name], load) for name in fields}
    shape = group[fields[0]].shape[::-1]
    columns = [_targets(group[name], load) for name in fields]
    items = [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]
    return _sequence(shape, items)


def _targets(item: Any, load: bool) -> list[Any]:
    """What a dataset of references points to, in C order of MATLAB's axes."""
    return [_version73_value(item.file[ref], load) for ref in item[()].T.ravel()]


def _letter(code: Any) -> str:
    """A letter of a field's name."""
    return code.decode() if isinstance(code, bytes) else str(code)


def _empty(kind: str, shape: tuple[int, ...]) -> Any:
    """An array without elements; its dataset holds the shape."""
    if kind == "char":
        return ""
    if kind == "struct":
        return {} if shape and all(length == 1 for length in shape) else []
    if kind == "cell":
        return []
    return np.zeros(shape, dtype=_DTYPES.get(kind, kind))


def _plain_value(item: Any, load: bool) -> Any:
    """A group or dataset of an HDF5 file that MATLAB did not write, as it is stored."""
    import h5py

    _check_item(item)
    if isinstance(item, h5py.Group):
        return {name: _plain_value(part, load) for name, part in item.items()}
    if h5py.check_string_dtype(item.dtype) is not None:
        texts = item.asstr()[()]
        return texts if isinstance(texts, str) else texts.tolist()
    if item.dtype.kind not in "biuf":
        return Unreadable(f"an array of type {item.dtype}")
    return np.asarray(item[()]) if load else _hollow(item.shape, item.dtype)


def _hollow(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array with shape and type that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype=dtype), shape)
