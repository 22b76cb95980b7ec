"""Exact inference: the rules, one backward sweep, forward messages, samples."""
