"""The two datasets of Konkle & Alvarez (2022), from osf.io/trne8 to a dataset folder.

What the archive holds is not assumed: a mapping file says it, which somebody has
written, compared with the archive and confirmed.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from versa.cache import cache_folder, file_hash
from versa.fmri.dataset.folder import write_dataset, write_own
from versa.fmri.dataset.problems import Problems
from versa.fmri.dataset.registry import published_entry
from versa.fmri.dataset.tables import read_description
from versa.fmri.published.converting import convert
from versa.fmri.published.mapping import read_mapping
from versa.fmri.published.osf import OSF_PROJECT, fetch_files, project_id
from versa.fmri.published.unpacking import is_packed, unpack

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("versa")

_MAPPING = "MappingSHA256"  # of the mapping file, in the description of the dataset


def archive_folder(name: str, project: str = OSF_PROJECT) -> Path:
    """Where the archive is, or would be; both datasets are in one archive."""
    published_entry(name)
    return cache_folder() / "osf" / project_id(project)


def mapping_path(name: str, project: str = OSF_PROJECT) -> Path:
    """Where the mapping file of a dataset is looked for: beside its archive."""
    folder = archive_folder(name, project)
    return folder.with_name(f"{folder.name}-{name}.toml")


def fetch_archive(
    name: str,
    project: str = OSF_PROJECT,
    *,
    patterns: str | Sequence[str] | None = None,
    update: bool = False,
) -> tuple[Path, "pd.DataFrame"]:
    """Download the archive, and unpack ``x.zip`` in it into ``x.zip.unpacked``.

    Returns its folder, and a table of the files that were asked for (file, bytes).
    """
    import pandas as pd

    folder = archive_folder(name, project)
    paths = fetch_files(project, folder, patterns=patterns, update=update)
    for path in filter(is_packed, paths):
        unpack(path)
    files = [str(path.relative_to(folder)) for path in paths]
    sizes = [path.stat().st_size for path in paths]
    return folder, pd.DataFrame({"file": files, "bytes": sizes})


def converted_folder(
    name: str, *, mapping: Path | None = None, anew: bool = False
) -> Path | None:
    """The dataset folder, if there is one; that it shall be made `anew` is refused.

    So is one that was made by another content of the mapping file.
    """
    folder = published_entry(name).folder
    if not folder.is_dir():
        return None
    if anew:
        raise ValueError(
            f"dataset {name!r} must not be there to be converted by other files or "
            f"another mapping; it is at {folder}. Remove {folder} to convert anew."
        )
    if mapping is None or not mapping.is_file():
        return folder
    # a folder that is damaged is told of by whoever checks it
    own = read_description(folder, Problems(folder, []))[1]
    if own.get(_MAPPING, digits := file_hash(mapping)) != digits:
        raise ValueError(
            f"dataset {name!r} must be that of its mapping file; {mapping} has changed "
            f"since {folder} was made by it. Remove {folder} to convert anew."
        )
    return folder


def convert_archive(name: str, archive: Path, mapping: Path) -> Path:
    """Convert into the folder where `versa.fit` looks for the dataset.

    Numbers of subjects and images other than those of the paper are refused.
    """
    entry = published_entry(name)
    if not mapping.is_file():
        raise ValueError(
            f"dataset {name!r} needs a mapping file, which says where its responses "
            f"are; {mapping} is missing. Write it from the contents of {archive} "
            "(`versa-data convert` lists them, docs/scanner.md explains the entries), "
            "set confirmed = true, and run the same command again."
        )
    dataset = convert(archive, read_mapping(mapping))
    found = dataset.n_subjects, dataset.n_images
    if found != (entry.n_subjects, entry.n_images):
        raise ValueError(
            f"dataset {name!r} must have {entry.n_subjects} subjects and "
            f"{entry.n_images} images; by {mapping} it has {found[0]} and {found[1]}. "
            "Correct the mapping file."
        )
    folder = write_dataset(dataset, entry.folder)
    write_own(folder, **{_MAPPING: file_hash(mapping)})
    return folder
