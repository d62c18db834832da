"""One comparison for all tests of the report."""

import pytest

from tests.reported import reported


@pytest.fixture(scope="session")
def comparison():
    return reported()
