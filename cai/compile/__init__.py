"""Compilers: a world's program read as tables."""
