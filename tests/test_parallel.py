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
