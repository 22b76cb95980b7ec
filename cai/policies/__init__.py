"""Policies: how to act in a state, for programs (``act``) and, where all is finite, for tables (``log_probs``)."""
