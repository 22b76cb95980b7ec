"""A world as a graph: what is independent, what entangles, how elimination runs, and conditionals for a node."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
