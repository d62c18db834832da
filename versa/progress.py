"""How far a long work is: a bar on a terminal, elsewhere a line every minute."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

logger = logging.getLogger("versa")

_EVERY = 60.0  # seconds between two lines where there is no bar


class Count:
    """How much is done, shown by a bar if there is one."""

    def __init__(self, bar: Any, n: int) -> None:
        self._bar, self.n = bar, n

    def update(self, n: int = 1) -> None:
        """So many more are done."""
        self.n += n
        self._bar.update(n)


@contextmanager
def counted(
    total: int | None, what: str, unit: str, *, show: bool = True, initial: int = 0
) -> Iterator[Count]:
    """A count to be updated: a bar on a terminal or in a notebook, else lines on the
    standard error, as of a job whose output is a file. The unit "B" means bytes."""
    from tqdm.auto import tqdm

    notebook = any("notebook" in kind.__module__ for kind in tqdm.__mro__)
    draws = notebook or sys.stderr.isatty()
    scale, size, name = (True, 10**6, "MB") if unit == "B" else (False, 1, f"{unit}s")
    with ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(
                total=total,
                initial=initial,
                desc=what,
                unit=unit,
                unit_scale=scale,
                disable=not (show and draws),
            )
        )
        count = Count(bar, initial)

        def line() -> str:
            of = "" if total is None else f" of {total // size}"
            return f"{what}: {count.n // size}{of} {name}"

        if show and not draws:
            stack.enter_context(every_minute(line, say=_written))
        yield count


@contextmanager
def every_minute(
    text: Callable[[], str],
    seconds: float | None = None,
    say: Callable[[str], object] | None = None,
) -> Iterator[None]:
    """A line of the log every minute, from a thread; none where the text is empty."""
    ended, pause = threading.Event(), _EVERY if seconds is None else seconds

    def write() -> None:
        while not ended.wait(pause):
            if line := text():
                (say or logger.info)(line)

    thread = threading.Thread(target=write, name="versa-every-minute", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _written(line: str) -> None:
    """A line for people who read the output of a job."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
