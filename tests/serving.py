"""A web server of our own."""

from tests.test_download import server

__all__ = ["old_numpy", "server"]


def old_numpy(content):
    """A legacy checkpoint as NumPy 1 would have pickled its arrays."""
    return content.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
