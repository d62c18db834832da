"""Figures: they draw what was found elsewhere, and take and give an Axes.

The public functions, listed in ``__init__.pyi``, are loaded when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
