"""Fixtures of all tests."""

from pathlib import Path

import pytest


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
