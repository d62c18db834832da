"""Fixtures of all tests."""

import logging
import threading
from pathlib import Path

import pytest

from tests.serving import WeightServer


@pytest.fixture(autouse=True)
def _builders(monkeypatch):
    """Cards of the tests may build networks of the tests and of their plug-ins."""
    monkeypatch.setenv("VERSA_BUILDERS", "tests, versa_plug_in, no_such_pack")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference numbers and real data, beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared with reference numbers and data")
    return folder


@pytest.fixture(scope="module")
def offline_cache(tmp_path_factory):
    """A cache for all tests of a module, without a network."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("VERSA_CACHE", str(folder))
        patch.setenv("VERSA_OFFLINE", "1")
        yield folder


@pytest.fixture
def server(cache, heard):
    """A web server of our own, an empty cache, and a log of what is told."""
    with WeightServer() as running:
        threading.Thread(
            target=running.serve_forever, args=(0.02,), daemon=True
        ).start()
        yield running
        running.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Folder of weights in an empty cache; downloads are allowed and do not wait."""
    monkeypatch.setenv("VERSA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VERSA_OFFLINE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("versa.http._PAUSE", 0.0)
    return tmp_path / "cache" / "weights"


@pytest.fixture
def heard(caplog):
    caplog.set_level(logging.INFO, logger="versa")
    return caplog
