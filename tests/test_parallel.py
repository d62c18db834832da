import os
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from versa import parallel


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return {
        info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"
    }


def test_order_and_threads(monkeypatch):
    monkeypatch.setattr(parallel, "n_cores", lambda: 3)
    barrier = threading.Barrier(3, timeout=10)

    def square(x):
        if x < 3:
            barrier.wait()  # passes only if three calls run at once
        return x * x

    assert parallel.map_in_threads(square, range(9)) == [x * x for x in range(9)]


def test_errors_come_out():
    with pytest.raises(ZeroDivisionError):
        parallel.map_in_threads(lambda x: 1 / x, [1, 0, 2])


@pytest.mark.parametrize("cores", [1, 2])
def test_blas_gets_one_thread_and_its_own_back(monkeypatch, cores):
    monkeypatch.setattr(parallel, "n_cores", lambda: cores)
    before = blas_threads()
    assert parallel.map_in_threads(lambda _: blas_threads(), range(2)) == [{1}, {1}]
    assert blas_threads() == before
    assert parallel.map_in_threads(len, []) == []


@pytest.mark.parametrize(
    ("line", "files", "cores"),
    [
        ("0::/job/step", {"job/cpu.max": "150000 100000"}, 2),  # a parent's limit
        ("0::/job", {"job/cpu.max": "max 100000"}, 2**31),
        ("3:cpu,cpuacct:/a", {"cpu,cpuacct/cpu.cfs_quota_us": "400000",
                              "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 4),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1"}, 2**31),
        ("4:memory:/", {"memory/cpu.max": "1 1"}, 2**31),
    ],
)  # fmt: skip
def test_cores_of_a_cgroup(tmp_path, line, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "member").write_text(line + "\n")
    assert parallel._cgroup_cores(tmp_path, tmp_path / "member") == cores
    assert parallel._cgroup_cores(tmp_path, tmp_path / "absent") == 2**31


def test_cores_are_those_of_the_affinity_and_the_cgroup(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    for limit, cores in [(2**31, 8), (3, 3), (1, 1)]:
        monkeypatch.setattr(parallel, "_cgroup_cores", lambda limit=limit: limit)
        assert parallel.n_cores() == cores
