"""Figures and the report: each figure is one function from results to a figure. ``__init__.pyi`` lists them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
