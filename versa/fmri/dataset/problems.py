"""What is wrong with a dataset folder: raised at once, or noted file by file."""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

LEVELS = ("error", "warning")

Result = TypeVar("Result")

logger = logging.getLogger("versa")


@dataclass(frozen=True)
class Problem:
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
    >>> print(Problem("participants.tsv", "error", "must exist; it is missing."))
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
class Problems:
    """Where the reader of a folder reports; errors are raised if `found` is None."""

    folder: Path
    found: list[Problem] | None = None

    def error(self, path: Path, text: str) -> None:
        """Refuse `path`; the text begins with a verb."""
        if self.found is None:
            raise ValueError(f"{path} {text}")
        self._note(path, "error", text)

    def warning(self, path: Path, text: str) -> None:
        """Note what somebody should look at, or log it."""
        if self.found is None:
            logger.warning("%s %s", path, text)
        else:
            self._note(path, "warning", text)

    def attempt(
        self, path: Path, read: Callable[..., Result], *arguments: Any
    ) -> Result | None:
        """Call a reader; its refusal is an error of `path`, and the result None."""
        try:
            return read(*arguments)
        except (ValueError, OSError) as error:
            if self.found is None:
                if isinstance(error, OSError) or str(path) in str(error):
                    raise
                raise ValueError(f"{path}: {error}") from error
            self._note(path, "error", " ".join(str(error).split()))
            return None

    def _note(self, path: Path, level: str, text: str) -> None:
        file = path.relative_to(self.folder).as_posix()
        # a reader's sentence begins with the file, which the problem has already
        for start in (f"{path}: ", f"{path} "):
            text = text.removeprefix(start)
        inner = re.compile(rf"(?<![\w./\\-]){re.escape(f'{self.folder}{os.sep}')}")
        problem = Problem(file, level, inner.sub("", text))
        if self.found is not None and problem not in self.found:
            self.found.append(problem)
