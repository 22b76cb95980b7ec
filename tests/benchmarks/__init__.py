"""Benchmarks: off by default, run by ``make bench``; RESULTS.md beside this file has the words and the tables."""
