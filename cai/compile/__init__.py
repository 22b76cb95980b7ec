"""Compilers: a world's program read as a model: tables, factors, a linear-Gaussian or a switching system."""
