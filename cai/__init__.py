"""Control as inference in Pyro: the public names, listed in ``__init__.pyi`` and imported on first use."""

import warnings

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
# Pyro loads a progress bar that, in a notebook without widgets, complains of it at every import.
warnings.filterwarnings("ignore", message="IProgress not found")
