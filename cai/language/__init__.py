"""Worlds of language: a reference model, an automaton that pays, and the exact conditional distribution of texts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
