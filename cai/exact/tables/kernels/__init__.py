"""Backups as machine code, for large worlds on a CPU: plain loops over NumPy arrays that numba compiles."""
