"""Worlds as tables: the equation of a backup, and its faster forms."""
