"""A bar on a terminal, a line every so often elsewhere."""

import sys
import time

import pytest

from versa import progress


@pytest.mark.parametrize(
    ("unit", "total", "line"),
    [("image", 30, "net: 7 of 30 images"), ("B", 30 * 10**6, "net: 0 of 30 MB")],
)
def test_lines_where_there_is_no_terminal(monkeypatch, capsys, unit, total, line):
    monkeypatch.setattr(progress, "_EVERY", 0.01)
    with progress.counted(total, "net", unit) as count:
        count.update(3)
        count.update(4)
        time.sleep(0.2)
    text = capsys.readouterr().err
    assert line in text.splitlines()
    assert count.n == 7
    with progress.counted(total, "net", unit, show=False) as count:
        time.sleep(0.1)
    assert not capsys.readouterr().err


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_EVERY", 0.01)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.counted(3, "net", "image", initial=1) as count:
        count.update(2)
        time.sleep(0.1)
    text = capsys.readouterr().err
    assert "net: 100%" in text
    assert "3/3" in text
    assert "of 3 images" not in text
