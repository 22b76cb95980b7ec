"""Worlds too large for one process: shards of the states."""
