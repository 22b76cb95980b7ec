"""Approximate inference that says how good it is: methods, and control that plans again at every step."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
