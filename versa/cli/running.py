"""What all console scripts share: one sentence per refusal, and the exit codes."""

import argparse
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from versa.answer import WIDTH
from versa.wording import shown

_WIDEST = 120  # columns that are easily read
_REFUSED = 2  # exit code of everything that a user can mend
_LONGEST = 4000  # characters of a refusal
_INTERRUPTED = 130  # of Ctrl-C, 128 + SIGINT: it stops a shell's loop, as 2 does not


def run_command(
    parser: argparse.ArgumentParser,
    action: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None,
    interrupted: Callable[[argparse.Namespace], str],
) -> int:
    """Parse a command line and run it; the exit code.

    The parser has the options of `add_common`. `interrupted` says what was kept after
    Ctrl-C and how to resume.
    """
    options = parser.parse_args(arguments)
    options.command = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format=f"{parser.prog}: %(message)s", stream=sys.stderr)
    logging.getLogger("versa").setLevel(
        logging.WARNING if options.quiet else logging.INFO
    )
    try:
        return action(options)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        _say(parser, f"interrupted; {interrupted(options)}.")
        return _INTERRUPTED
    except (ValueError, OSError, ImportError) as error:
        if options.traceback:
            raise
        text = shown(" ".join(str(error).split()), limit=_LONGEST)
        _say(parser, text or type(error).__name__)
        return _REFUSED


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    add = parser.add_argument
    add("--quiet", action="store_true", help="no progress bars, warnings only")
    add("--traceback", action="store_true", help="on an error, show where it arose")


def add_layout(add: Callable[..., object]) -> None:
    """Add the option that says where in a file of one's own the weights are."""
    add(
        "--layout",
        metavar="LAYOUT",
        help="of ARCHITECTURE@FILE: how the file is written, a name such as moco, or "
        "path=KEY/KEY,prefix=TEXT,drop=TEXT/TEXT (default: searched for)",
    )


def with_layout(name: str, layout: str | None) -> Any:
    """A network whose weights are read with a layout; else its name as it is."""
    from versa.models.zoo.loading import load_model
    from versa.models.zoo.names import find_network

    if layout is None or not find_network(name).weights:
        return name
    architecture, _, file = name.partition("@")
    return load_model(architecture, weights=file, layout=layout)


def names(text: str) -> list[str]:
    """Names with commas between."""
    return [name.strip() for name in text.split(",") if name.strip()]


def show(table: Any, *, width: int | None = 60) -> None:
    """Print a DataFrame for the terminal; cells are cut at `width` letters."""
    print(table.to_string(index=False, na_rep="-", max_colwidth=width))


def show_fitting(table: Any) -> None:
    """Print a DataFrame in the terminal's width: the first columns that fit."""
    columns = list(table.columns)
    while True:
        text = table[columns].to_string(index=False, na_rep="-", max_colwidth=40)
        if max(map(len, text.splitlines())) <= width() or len(columns) == 1:
            break
        columns.pop()
    print(text)
    left_out = [name for name in table.columns if name not in columns]
    if left_out:
        say(f"\nA wider terminal also shows {', '.join(left_out)}.")


def width() -> int:
    """Columns of the terminal, from 80 to 120; 80 where there is none."""
    return min(max(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH), _WIDEST)


def drawing() -> dict[str, Any]:
    """How an answer card is drawn where stdout goes; plain but on a terminal.

    NO_COLOR (https://no-color.org) and TERM=dumb turn bold and dim letters off.
    """
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    try:
        "█▌·±≤²−".encode(sys.stdout.encoding or "utf-8")
        ascii_only = False
    except UnicodeEncodeError:
        ascii_only = True
    styled = terminal and not os.environ.get("NO_COLOR")
    return {"width": width(), "styled": styled, "ascii_only": ascii_only}


def say(text: str) -> None:
    """Print a sentence in lines of the terminal's width; no path is torn apart."""
    for line in text.split("\n"):
        print(
            textwrap.fill(line, width(), break_on_hyphens=False, break_long_words=False)
        )


def _say(parser: argparse.ArgumentParser, sentence: str) -> None:
    print(f"{parser.prog}: error: {sentence}", file=sys.stderr)
