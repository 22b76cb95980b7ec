"""``python -m cai.cli`` is the same as ``cai``, but that Ctrl-C during its first imports is Python's own."""

from cai.cli import main

if __name__ == "__main__":
    main()
