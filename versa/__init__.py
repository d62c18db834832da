"""versa: does this network see like the brain does?

Relates the layers of vision networks to human fMRI responses, after Konkle & Alvarez
(2022), Nature Communications 13:491. The public names, listed in ``__init__.pyi``, are
loaded when they are first used, so that ``import versa`` is fast and loads no torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
