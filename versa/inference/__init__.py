"""What fitted networks say beyond their own tables: shared and unique parts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
