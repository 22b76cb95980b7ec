"""The command line: ``cai``, or ``python -m cai``."""

import signal

from cai.support.progress import end_or_raise, speak


def main() -> None:
    """Run the command line, with an orderly end at Ctrl-C from the first import on."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # who ignores Ctrl-C keeps it so
        signal.signal(signal.SIGINT, end_or_raise)
    speak()
    from cai.cli import main as run

    run()


if __name__ == "__main__":
    main()
