"""The torch world: networks in, one Gram matrix per layer out.

Nothing here knows of brains, and nothing outside this folder imports torch.
Importing the folder loads no torch either; its modules do when they need it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
