"""Worlds that are seen in part: beliefs and what is best to do on them."""
