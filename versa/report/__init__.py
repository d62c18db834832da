"""The report: one HTML page that holds all that was found, and explains it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
