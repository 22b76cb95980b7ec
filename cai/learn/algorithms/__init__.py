"""The learners, a file an algorithm; a public one has a line in ``cai/learn/__init__.pyi``, and is listed by it."""
