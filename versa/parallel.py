"""Use of the cores: many small products, each on one of them.

A matrix of 72 images is too small for a BLAS to split. With its own threads it waits
for them longer than it computes, and on a busy machine a hundred times longer. So
versa gives BLAS one thread and runs independent pieces side by side.
"""

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = ["map_in_threads", "n_cores", "one_blas_thread"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@functools.cache
def _controller() -> "ThreadpoolController":
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep NumPy's products on one core inside the block."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


def n_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> list[Result]:
    """Results of `function` for every item, in order, computed side by side.

    NumPy frees the interpreter lock while it computes, so threads are enough.

    Parameters
    ----------
    function : callable
        Must not depend on the order of the calls.
    items : iterable

    Returns
    -------
    results : list

    Raises
    ------
    Exception
        What a call raised.

    Examples
    --------
    >>> map_in_threads(len, ["EarlyV", "pOTC"])
    [6, 4]
    """
    items = list(items)
    results: list[Any] = [None] * len(items)
    places = iter(range(len(items)))  # shared: whoever is free takes the next

    def work() -> None:
        try:
            for place in places:
                results[place] = function(items[place])
        except BaseException:
            for _ in places:  # the others need not go on
                pass
            raise

    n_helpers = min(n_cores(), len(items)) - 1
    with one_blas_thread():
        if n_helpers < 1:
            work()
        else:
            with ThreadPoolExecutor(n_helpers) as pool:
                helpers = [pool.submit(work) for _ in range(n_helpers)]
                work()
            for helper in helpers:
                helper.result()
    return results
