"""Figures, each one function that takes results and returns a figure; listed in ``__init__.pyi``. And the report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
