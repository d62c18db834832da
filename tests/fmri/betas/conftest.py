"""Fixtures of the tests of betas."""

import json

import pytest


@pytest.fixture(scope="module")
def real(shared):
    """Folder of real BrainVoyager files, and what is known of them."""
    folder = shared / "data" / "brainvoyager"
    if not folder.is_dir():
        pytest.skip("needs real BrainVoyager files")
    return folder, json.loads((folder / "expected.json").read_text())
