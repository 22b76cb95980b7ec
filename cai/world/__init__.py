"""Worlds: what a user writes, the trajectory program that it becomes, and conditions on its sites."""
