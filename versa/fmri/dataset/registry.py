"""The datasets that versa knows by name, and how one is loaded."""

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from versa.cache import cache_folder
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.folder import read_dataset
from versa.wording import unknown

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DatasetEntry:
    """What is known of a dataset before it is loaded."""

    name: str
    loader: Callable[[], BrainDataset] | str | None  # None: a folder in the cache
    description: str = ""
    n_subjects: int | None = None
    n_images: int | None = None

    @property
    def folder(self) -> Path:
        """Where a dataset without loader is kept."""
        return cache_folder() / "datasets" / self.name

    @property
    def available(self) -> bool:
        """Whether the dataset can be loaded as things are."""
        if self.loader is None:
            return self.folder.is_dir()
        if callable(self.loader):
            return True
        try:
            return importlib.util.find_spec(self.loader.partition(":")[0]) is not None
        except ModuleNotFoundError:  # raised when a parent package is missing
            return False


_ENTRIES = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            "simulated-orientation",
            "versa.simulated.datasets:simulated_orientation",
            "Simulated version of 'orientation' with a known answer; no download.",
            7,
            40,
        ),
        DatasetEntry(
            "simulated-inanimate",
            "versa.simulated.datasets:simulated_inanimate",
            "Simulated version of 'inanimate' with a known answer; no download.",
            10,
            72,
        ),
        DatasetEntry(
            "orientation",
            None,
            "Konkle & Alvarez (2022): 8 objects in 5 orientations.",
            7,
            40,
        ),
        DatasetEntry(
            "inanimate",
            None,
            "Konkle & Alvarez (2022): 72 inanimate objects.",
            10,
            72,
        ),
    )
}


def register_dataset(
    name: str,
    loader: Callable[[], BrainDataset] | str,
    *,
    description: str = "",
    n_subjects: int | None = None,
    n_images: int | None = None,
    replace: bool = False,
) -> None:
    """Give a dataset a name that :func:`load_dataset` understands.

    Parameters
    ----------
    name : str
        The new name.
    loader : callable or str
        A function without arguments that returns a BrainDataset, or where to find one
        as ``"module:function"``; nothing is imported before the dataset is loaded.
    description : str, default=""
        One line for :func:`list_datasets`.
    n_subjects, n_images : int, optional
        The size, for :func:`list_datasets`.
    replace : bool, default=False
        Whether the name may be in use already.

    Raises
    ------
    ValueError
        If the name is in use or looks like a path, or `loader` is neither.

    Examples
    --------
    >>> register_dataset("inanimate", "my_package.data:load")
    Traceback (most recent call last):
    ...
    ValueError: dataset names must be unique; 'inanimate' is registered already. Pass
    replace=True to put the new one in its place.
    """
    if not isinstance(name, str) or not name or _looks_like_path(name):
        raise ValueError(
            f"a dataset's name must be a text without path separators; got {name!r}."
        )
    if isinstance(loader, str):
        module, _, function = loader.partition(":")
        if not (
            all(part.isidentifier() for part in module.split("."))
            and function.isidentifier()
        ):
            raise ValueError(
                f"loader must be a function or 'module:function'; got {loader!r}."
            )
    elif not callable(loader):
        raise ValueError(
            "loader must be a function or 'module:function'; got "
            f"{type(loader).__name__}."
        )
    if name in _ENTRIES and not replace:
        raise ValueError(
            f"dataset names must be unique; {name!r} is registered already. Pass "
            "replace=True to put the new one in its place."
        )
    _ENTRIES[name] = DatasetEntry(name, loader, description, n_subjects, n_images)


def load_dataset(
    dataset: BrainDataset | str | os.PathLike[str], *, halves: bool = False
) -> BrainDataset:
    """Load a dataset.

    Parameters
    ----------
    dataset : BrainDataset, str or path-like
        A dataset (returned as it is), a name of :func:`list_datasets`, or a folder as
        :func:`versa.write_dataset` makes it. A name has precedence over a folder
        of that name in the working directory; write ``./name`` for the folder.
    halves : bool, default=False
        Read the betas of odd and even runs of a folder, too.

    Returns
    -------
    dataset : BrainDataset
        The dataset.

    Raises
    ------
    ValueError
        If the name is unknown (with close matches), the data are not on this machine
        (says where to get them), or a file of the folder is not right.
    """
    if isinstance(dataset, BrainDataset):
        return dataset
    if isinstance(dataset, str) and dataset in _ENTRIES:
        return _load_entry(_ENTRIES[dataset], halves=halves)
    if not isinstance(dataset, str | os.PathLike):
        raise ValueError(
            "dataset must be a BrainDataset, a name or a folder; got "
            f"{type(dataset).__name__}."
        )
    folder = Path(dataset).expanduser()
    if isinstance(dataset, str) and not (_looks_like_path(dataset) or folder.is_dir()):
        raise ValueError(
            f"{unknown('dataset', dataset, _ENTRIES)} A folder is read where the text "
            "has a path separator or the folder exists."
        )
    return read_dataset(folder, halves=halves)


def list_datasets() -> "pd.DataFrame":
    """Datasets that :func:`load_dataset` knows by name.

    Returns
    -------
    datasets : DataFrame
        Columns name, n_subjects, n_images, available (whether it can be loaded as
        things are) and description; one row per dataset.
    """
    import pandas as pd

    entries = list(_ENTRIES.values())
    return pd.DataFrame(
        {
            "name": [entry.name for entry in entries],
            "n_subjects": pd.array([e.n_subjects for e in entries], dtype="Int64"),
            "n_images": pd.array([e.n_images for e in entries], dtype="Int64"),
            "available": [entry.available for entry in entries],
            "description": [entry.description for entry in entries],
        }
    )


def published_entry(name: str) -> DatasetEntry:
    """What is known of a dataset of the paper, "orientation" or "inanimate"."""
    options = [entry.name for entry in _ENTRIES.values() if entry.loader is None]
    if name not in options:
        raise ValueError(unknown("published dataset", name, options))
    return _ENTRIES[name]


def _looks_like_path(text: str) -> bool:
    """Whether a text can only be a path."""
    return text in (".", "..", "~") or "/" in text or os.sep in text


def _load_entry(entry: DatasetEntry, *, halves: bool) -> BrainDataset:
    """Find the loader of a registered dataset, and call it."""
    if entry.loader is None:
        if not entry.folder.is_dir():
            raise ValueError(
                f"dataset {entry.name!r} must be in the folder {entry.folder}; it is "
                f"not found. `versa-data fetch {entry.name}` downloads it from "
                "osf.io and converts it; or use the simulated version "
                f"'simulated-{entry.name}', which needs no download. "
                "versa.list_datasets() shows what is available."
            )
        return read_dataset(entry.folder, halves=halves)
    loader = entry.loader
    if isinstance(loader, str):
        module, _, function = loader.partition(":")
        try:
            loader = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"dataset {entry.name!r} is registered with the loader "
                f"{entry.loader!r}, which cannot be imported: {error}."
            ) from error
    dataset = loader()
    if not isinstance(dataset, BrainDataset):
        raise ValueError(
            f"the loader of dataset {entry.name!r} must return a BrainDataset; got "
            f"{type(dataset).__name__}."
        )
    return dataset
