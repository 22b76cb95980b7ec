"""Benchmarks: off by default, run by ``make bench``; docs/benchmarks.md has the words and a table."""
