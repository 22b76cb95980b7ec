"""Learners as functions (env, seed) -> policy, as ``cai.verify`` takes them."""
