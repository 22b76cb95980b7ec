"""Unit tests for reinforcement learning: small worlds with exact answers, each made to catch one kind of mistake."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
