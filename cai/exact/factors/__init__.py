"""Worlds as factors: each mean taken by variable elimination."""
