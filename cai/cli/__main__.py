"""``python -m cai.cli`` is the same as ``cai``."""

from cai.cli import main

if __name__ == "__main__":
    main()
