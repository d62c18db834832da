"""What a check of a dataset folder finds, file by file."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["LEVELS", "Finding", "Findings"]

LEVELS = ("error", "warning")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or looks wrong, with a file of a dataset folder.

    Parameters
    ----------
    file : str
        The file or folder, relative to the dataset folder, with forward slashes;
        ``"."`` is the dataset folder.
    level : str
        ``"error"``: the dataset cannot be read, or not be used. ``"warning"``: it can,
        but somebody should look.
    text : str
        A sentence, with the next step.

    Examples
    --------
    >>> print(Finding("participants.tsv", "error", "must exist; it is missing."))
    error: participants.tsv: must exist; it is missing.
    """

    file: str
    level: str
    text: str

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(
                f"level must be {' or '.join(LEVELS)}; got {self.level!r}."
            )

    def __str__(self) -> str:
        return f"{self.level}: {self.file}: {self.text}"


@dataclass(frozen=True)
class Findings:
    """What was found in one folder so far.

    Parameters
    ----------
    folder : Path
        The dataset folder.
    found : list of Finding
        In the order in which they were found.
    """

    folder: Path
    found: list[Finding] = field(default_factory=list)

    def error(self, path: Path, text: str) -> None:
        """Note what keeps the dataset from being read or used."""
        self._note(path, "error", text)

    def warning(self, path: Path, text: str) -> None:
        """Note what somebody should look at."""
        self._note(path, "warning", text)

    def attempt(
        self, path: Path, read: Callable[..., Result], *arguments: Any
    ) -> Result | None:
        """Call a reader; note its refusal as an error of `path`, and go on.

        Parameters
        ----------
        path : Path
            The file that is to blame.
        read : callable
            What to try.
        *arguments : object
            What to call it with.

        Returns
        -------
        result : object or None
            None if it was refused.
        """
        try:
            return read(*arguments)
        except (ValueError, OSError) as error:
            self.error(path, " ".join(str(error).split()))
            return None

    def by_file(self) -> list[Finding]:
        """All findings, those of one file side by side, its errors first."""
        first = {one.file: row for row, one in reversed(list(enumerate(self.found)))}
        return sorted(
            self.found, key=lambda one: (first[one.file], LEVELS.index(one.level))
        )

    def _note(self, path: Path, level: str, text: str) -> None:
        file = path.relative_to(self.folder).as_posix()
        # a reader's sentence starts with the file, which the finding has already
        for start in (f"{path}: ", f"{path} "):
            text = text.removeprefix(start)
        inner = re.compile(rf"(?<![\w./\\-]){re.escape(f'{self.folder}{os.sep}')}")
        text = inner.sub("", text)
        finding = Finding(file, level, text)
        if finding not in self.found:
            self.found.append(finding)
