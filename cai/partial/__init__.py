"""Worlds that are seen in part: beliefs, and the best policy over what was seen."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
