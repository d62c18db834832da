"""Files of OSF projects: what is known of each, and which names may be written."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from versa.wording import listing

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "OsfFile",
    "changes",
    "check_names",
    "choose",
    "files_table",
    "folded",
    "is_plain",
    "plain_name",
]


_ODD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff/\\]")  # controls, surrogates, slashes


@dataclass(frozen=True)
class OsfFile:
    """One version of a file of an OSF project.

    Parameters
    ----------
    path : str
        Where it lies in the project, with ``/`` between folders; the files of a
        component lie in a folder with the component's title.
    size : int or None
        Bytes; None if not published.
    md5, sha256 : str
        Hexadecimal digits of its hashes; empty if not published.
    version : str
        As OSF counts them, from ``"1"``; empty if not published.
    url : str
        Address of this very version.
    node : str
        Five letters of the project or component to which it belongs.
    modified : str
        Date of this version, ISO 8601.

    Raises
    ------
    ValueError
        If the path may lead out of a folder, or another value is not of this form.

    Examples
    --------
    >>> url = "https://osf.io/download/abc12/?version=1"
    >>> OsfFile("betas/sub-01.mat", 9, "", "", "1", url, "trne8", "").path
    'betas/sub-01.mat'
    """

    path: str
    size: int | None
    md5: str
    sha256: str
    version: str
    url: str
    node: str
    modified: str

    def __post_init__(self) -> None:
        hashes = (self.md5, self.sha256)
        texts = (self.path, *hashes, self.version, self.url, self.node, self.modified)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"fields of a file on OSF must be texts; got {texts}.")
        if not all(map(is_plain, self.path.split("/"))):
            raise ValueError(
                "path of a file on OSF must be names of folders and of the file, with "
                f"/ between them; got {self.path!r}, which is never written."
            )
        if self.size is not None and (type(self.size) is not int or self.size < 0):
            raise ValueError(
                f"size of {self.path} must be a count of bytes; got {self.size!r}."
            )
        for kind, digits, length in (
            ("md5", self.md5, 32),
            ("sha256", self.sha256, 64),
        ):
            if digits and not re.fullmatch(f"[0-9a-f]{{{length}}}", digits):
                raise ValueError(
                    f"{kind} of {self.path} must be {length} lower-case hexadecimal "
                    f"digits; got {digits!r}."
                )
        if not re.match(r"https?://[^/]", self.url):
            raise ValueError(
                f"address of {self.path} must start with https:// or http://; got "
                f"{self.url!r}."
            )


def files_table(files: Sequence[OsfFile]) -> "DataFrame":
    """Table of files, to be shown.

    Parameters
    ----------
    files : sequence of OsfFile

    Returns
    -------
    table : DataFrame
        One line per file; columns path, size (bytes), version, modified, node, md5,
        sha256 and url. What is not published is empty.

    Examples
    --------
    >>> url = "https://osf.io/download/abc12/?version=1"
    >>> file = OsfFile("sub-01.mat", 9, "", "", "1", url, "trne8", "2021-03-01")
    >>> files_table([file])[["path", "size", "version"]]
             path  size version
    0  sub-01.mat     9       1
    """
    import pandas as pd

    columns = ["path", "size", "version", "modified", "node", "md5", "sha256", "url"]
    table = pd.DataFrame(
        [[getattr(file, column) for column in columns] for file in files],
        columns=columns,
    )
    return table.astype({"size": "Int64"})


def choose(
    files: Sequence[OsfFile],
    patterns: str | Sequence[str] | None,
    where: str = "the project",
) -> tuple[OsfFile, ...]:
    """Choose files by their paths.

    Parameters
    ----------
    files : sequence of OsfFile
    patterns : str, sequence of str, or None
        Shell patterns, in which ``*`` matches slashes, too; None for all files.
    where : str
        What the files are, for the sentence.

    Returns
    -------
    chosen : tuple of OsfFile
        Those that match one pattern or more, in their order.

    Raises
    ------
    ValueError
        If a pattern matches no file.
    """
    if patterns is None:
        return tuple(files)
    wanted = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(file.path, pattern) for file in files):
            paths = listing(file.path for file in files) or "nothing"
            raise ValueError(
                f"patterns must each match a file of {where}; {pattern!r} matches "
                f"none of {paths}."
            )
    return tuple(
        file
        for file in files
        if any(fnmatchcase(file.path, pattern) for pattern in wanted)
    )


def check_names(files: Sequence[OsfFile], reserved: Sequence[str]) -> None:
    """Refuse files that cannot lie side by side in one folder of every system.

    Parameters
    ----------
    files : sequence of OsfFile
    reserved : sequence of str
        Names in the folder that are versa's own.

    Raises
    ------
    ValueError
        If two paths differ only in case or composition of letters, or a path is
        reserved, or lies in a file.
    """
    own = {folded(name) for name in reserved}
    places: dict[str, str] = {}
    for file in files:
        if folded(file.path).split("/")[0] in own:
            raise ValueError(
                f"files of the project must not be called as versa's own; got "
                f"{file.path!r}. Choose others by patterns."
            )
        place = folded(file.path)
        if place in places:
            raise ValueError(
                "files must have names that differ in more than case; the project "
                f"has {places[place]!r} and {file.path!r}. Choose one by patterns."
            )
        places[place] = file.path
    for place, path in places.items():
        for folder in PurePosixPath(place).parents:
            if str(folder) in places:
                raise ValueError(
                    f"files must not lie in files; the project has "
                    f"{places[str(folder)]!r} and {path!r}. Choose one by patterns."
                )


def changes(pinned: Sequence[OsfFile], now: Sequence[OsfFile]) -> Mapping[str, str]:
    """What became of the files of a project.

    Parameters
    ----------
    pinned, now : sequence of OsfFile

    Returns
    -------
    changes : mapping of str to str
        For each path that is not as it was, how it changed. What is not published of
        one of the two is no change.
    """
    before = {file.path: file for file in pinned}
    after = {file.path: file for file in now}
    found = {}
    for path, old in before.items():
        new = after.get(path)
        if new is None:
            found[path] = "is gone"
            continue
        differing = [
            kind
            for kind in ("version", "size", "md5", "sha256")
            if getattr(old, kind) not in ("", None)
            and getattr(new, kind) not in ("", None)
            and getattr(old, kind) != getattr(new, kind)
        ]
        if "version" in differing:
            found[path] = f"has version {new.version}, not {old.version}"
        elif differing:
            found[path] = f"has another {' and '.join(differing)}"
    found.update({path: "is new" for path in after if path not in before})
    return found


def folded(path: str) -> str:
    """What a path is on a disk that tells neither case nor composition of letters.

    Parameters
    ----------
    path : str

    Returns
    -------
    folded : str

    Examples
    --------
    >>> folded("Data/A.mat") == folded("data/a.mat")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def is_plain(name: str) -> bool:
    """Whether a name is one name in one folder, on every system.

    Parameters
    ----------
    name : str

    Returns
    -------
    plain : bool

    Examples
    --------
    >>> [is_plain(name) for name in ("betas.mat", "..", "a/b", "C:x", "")]
    [True, False, False, False, False]
    """
    return (
        name not in ("", ".", "..")
        and not _ODD.search(name)
        and PurePosixPath(name).name == PureWindowsPath(name).name == name
    )


def plain_name(name: str) -> str:
    """A name without the characters that no file's name may have.

    Parameters
    ----------
    name : str

    Returns
    -------
    name : str
        It need not be plain: empty, ``.`` and ``..`` stay what they are.

    Examples
    --------
    >>> plain_name("betas\\\\sub-01.mat")
    'betas_sub-01.mat'
    """
    return re.sub("^([A-Za-z]):", r"\1_", _ODD.sub("_", name))  # a drive of Windows
