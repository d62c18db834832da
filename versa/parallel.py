"""Use of the cores: many small products, each on one of them.

A matrix of 72 images is too small for a BLAS to split. With its own threads it waits
for them longer than it computes, and on a busy machine a hundred times longer. So
versa gives BLAS one thread and runs independent pieces side by side.
"""

import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

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
    """Cores that this process may use: those it may run on (affinity, as set by Slurm
    or taskset), or fewer if a cgroup (a container, a job) limits its CPU time."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, min(allowed, _cgroup_cores()))


@functools.cache
def _cgroup_cores(
    mounted: Path = Path("/sys/fs/cgroup"), member: Path = Path("/proc/self/cgroup")
) -> int:
    """CPU time that the cgroups of this process grant, in cores rounded up."""
    limits = [2**31]
    try:
        lines = member.read_text().splitlines()
    except OSError:  # not Linux
        return limits[0]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = mounted / controllers  # version 2 has no name of a controller here
        group = base / path.strip("/")
        for folder in (group, *group.parents):  # a parent's limit holds as well
            limits += _cpu_limit(folder)
            if folder == base:
                break
    return min(limits)


def _cpu_limit(folder: Path) -> list[int]:
    """Limit of one cgroup in cores; none, if it sets none."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            text = " ".join((folder / name).read_text() for name in files)
            quota, period = map(float, text.split())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if quota > 0 and period > 0:
            return [math.ceil(quota / period)]
    return []


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item]
) -> list[Result]:
    """Results of `function` for every item, in order, computed side by side.

    NumPy frees the interpreter lock while it computes, so threads are enough. An error
    in a call is raised here.
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
