"""Switching linear-Gaussian systems under a rule."""
