"""The command line, a file a command. Nothing heavy is imported before a command runs."""

# Importing a command's file adds the command; --help lists them in this order.
from cai.cli import list, show, new, check, solve, compare, fit, learn, graph, explore, claims, optimum, verify  # noqa: F401  # isort: skip
from cai.cli.app import app, main

__all__ = ["app", "main"]
