"""Signals raise a flag, and the handlers of before come back."""

import signal
import threading

import pytest

from versa.models.ipcl.stopping import stop_flag


def test_signals_raise_a_flag_and_are_given_back(capfd):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_flag() as flag:
        assert (flag.preempted, flag.interrupted) == (False, False)
        signal.raise_signal(signal.SIGUSR2)
        assert (flag.preempted, flag.interrupted) == (True, False)
        signal.raise_signal(signal.SIGINT)
        assert flag.interrupted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    assert capfd.readouterr().err.count("stopping after this chunk") == 1


def test_outside_the_main_thread_no_signal_is_touched():
    found = []

    def look():
        with stop_flag() as flag:
            found.append((flag.preempted, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [(False, before)]
