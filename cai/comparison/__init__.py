"""Comparison: any policy evaluated exactly, every nat accounted for."""
