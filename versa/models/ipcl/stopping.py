"""Signals that end a training run: they only raise a flag, and the run saves itself."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# What a scheduler sends before it takes the machine away (Slurm's --signal=USR2)
_PREEMPTION = ("SIGTERM", "SIGUSR2")
_STOPPING = b"\nstopping after this chunk; what is done will be saved.%s\n"
_AT_ONCE = b" Ctrl-C again stops at once."


class Stopped(Exception):  # noqa: N818
    """A process of the run was asked to stop."""


class StopFlag:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self.interrupted = False  # by Ctrl-C
        self.preempted = False  # by a scheduler

    def raise_it(self, number: int, _frame: FrameType | None = None) -> None:
        """Handle a signal. A second Ctrl-C ends the program at once."""
        if not (self.interrupted or self.preempted):
            again = _AT_ONCE if number == signal.SIGINT else b""
            with contextlib.suppress(OSError):  # print must not be entered twice
                os.write(2, _STOPPING % again)
        if number == signal.SIGINT:
            self.interrupted = True
            signal.signal(signal.SIGINT, signal.default_int_handler)
        else:
            self.preempted = True


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Turn signals into a flag; outside the main thread it never rises."""
    flag = StopFlag()
    former: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", *_PREEMPTION):
            number = getattr(signal, name, None)  # not on every system
            if number is not None:
                former[number] = signal.signal(number, flag.raise_it)
    try:
        yield flag
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
