"""Patterns: names of files and keys with placeholders in braces."""

import re
from pathlib import Path, PurePosixPath, PureWindowsPath

__all__ = ["check_inside", "ending", "fill", "inside", "placeholders"]


def fill(pattern: str, **words: object) -> str:
    """Put words into the placeholders of a pattern.

    Parameters
    ----------
    pattern : str
        Such as ``"{subject}/betas.npy"``; braces around anything else stay.
    **words : object
        The words by placeholder.

    Returns
    -------
    text : str
        The pattern with the words that are given.

    Examples
    --------
    >>> fill("{subject}_{sector}.npy", subject="01")
    '01_{sector}.npy'
    """
    return re.sub(
        r"\{(\w+)\}", lambda match: str(words.get(match[1], match[0])), pattern
    )


def ending(path: str) -> str:
    """Suffix of a file in lower case, with what lies below ``.gz``.

    Parameters
    ----------
    path : str
        The file's name, or a pattern of it.

    Returns
    -------
    suffix : str
        Such as ``".nii.gz"``; empty if there is none.

    Examples
    --------
    >>> ending("S1/Betas.VMP"), ending("mask.nii.gz")
    ('.vmp', '.nii.gz')
    """
    match = re.search(r"\.\w+(\.gz)?$", path.lower())
    return match[0] if match else ""


def placeholders(pattern: str) -> set[str]:
    """Names of the placeholders of a pattern.

    Parameters
    ----------
    pattern : str
        The pattern.

    Returns
    -------
    names : set of str
        What stands in braces.

    Examples
    --------
    >>> sorted(placeholders("{subject}/{sector}.npy"))
    ['sector', 'subject']
    """
    return set(re.findall(r"\{(\w*)\}", pattern))


def check_inside(what: str, path: str) -> None:
    """Refuse a path that leads out of the folder it is relative to.

    Parameters
    ----------
    what : str
        How the message calls it.
    path : str
        The path, or a pattern of it.

    Raises
    ------
    ValueError
        If it is absolute, climbs, or has the folders of another system.

    Examples
    --------
    >>> check_inside("images.file", "../{condition}.png")
    Traceback (most recent call last):
    ...
    ValueError: images.file must be a path inside the archive, with / between folders;
    got '../{condition}.png'.
    """
    inside = PurePosixPath(path)
    if (
        inside.is_absolute()
        or ".." in inside.parts
        or PureWindowsPath(path).drive
        or "\\" in path
        or path.startswith("~")
    ):
        raise ValueError(
            f"{what} must be a path inside the archive, with / between folders; got "
            f"{path!r}."
        )


def inside(folder: Path, path: str) -> Path:
    """A file of an archive, refused if a link leads out of it.

    Parameters
    ----------
    folder : Path
        The archive.
    path : str
        Relative to it.

    Returns
    -------
    path : Path
        The file, which need not exist.

    Raises
    ------
    ValueError
        If a link leads out of the archive.
    """
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path} must lie in the archive; it leads out of it.")
    return folder / path
