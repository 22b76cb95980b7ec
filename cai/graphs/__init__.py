"""A world as a graph: independence, entanglement, variable elimination, and forms of conditional distributions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
