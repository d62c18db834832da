"""The brain world: encoding, RDMs, RSA and noise ceilings; then rooms for their data.

It knows no network: layers arrive as Gram matrices.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
