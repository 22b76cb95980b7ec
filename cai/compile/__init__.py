"""Compilers: a world's program read as a model, tables or factors."""
