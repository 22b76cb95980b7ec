"""Worlds: what a user writes, the trajectory program that it becomes, and what is seen and done in it."""
