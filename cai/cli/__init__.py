"""The command line: solve, fit, compare, graph, check, list, claims. Nothing heavy is imported before a command runs."""

# Importing a command's file adds the command; --help lists them in this order.
from cai.cli import solve, fit, compare, graph, check, claims  # noqa: F401  # isort: skip
from cai.cli.app import app, main

__all__ = ["app", "main"]
