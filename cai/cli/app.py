"""The app with all commands, and the handling of errors."""

import functools
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from contextvars import ContextVar
from typing import Annotated, Any, NoReturn, TextIO

import typer

from cai.errors import CaiError, lacks_memory

app = typer.Typer(
    help="Control as inference: exact posterior, variational and hard optimum of any finite or linear-Gaussian world.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


_answers: ContextVar[TextIO | None] = ContextVar("_answers", default=None)
"""Standard output as the command found it, while all else that is printed goes to stderr."""


def with_exit_code(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what ends a command into one clear message and an exit code: 1 findings, 2 whatever is wrong, 130 Ctrl-C.

    With --json standard output carries the answer alone: what a world prints, or the command beside it, is on stderr.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        aside = redirect_stdout(sys.stderr) if kwargs.get("as_json") else nullcontext()
        token = _answers.set(sys.stdout)
        try:
            with aside:
                command(*args, **kwargs)
            sys.stdout.flush()
        except typer.Exit:
            raise
        except BrokenPipeError:  # somebody took the first lines and left
            sys.stdout = None
            raise typer.Exit(0) from None
        except BaseException as error:
            ending = _ending(error)
            if ending is None:
                raise
            _stop(*ending)
        finally:
            _answers.reset(token)

    return wrapped


def print_json(value: Any) -> None:
    """Print an answer as JSON, on the standard output that the command found."""
    print(json.dumps(value, indent=2), file=_answers.get() or sys.stdout)


def say(message: str) -> None:
    """Say something beside the answer, on stderr."""
    print(f"cai: {message}", file=sys.stderr)


def _ending(error: BaseException) -> tuple[str, int] | None:
    """Return the words and the exit code for an error; None where it is a fault of cai itself."""
    if isinstance(error, CaiError):
        return str(error), 2
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if lacks_memory(error):
        return f"out of memory: {(str(error) or type(error).__name__).splitlines()[0]}", 2
    if isinstance(error, OSError):
        return f"{error.strerror or str(error) or type(error).__name__}: {error.filename or ''}".rstrip(": "), 2
    if isinstance(error, Exception):
        return None
    said = f"sys.exit({error.code!r})" if isinstance(error, SystemExit) else f"{type(error).__name__} {error}".strip()
    return f"ended by {said} in the code of the world, or of what it calls", 2


def _stop(message: str, code: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError:  # Python would try once more at its end, and say so in its own words
        sys.stdout = None
    for line in message.splitlines():
        say(line)
    raise typer.Exit(code)


def _print_version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import version

        print(version("control-as-inference"))
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Control as inference: exact posterior, variational and hard optimum of any finite or linear-Gaussian world."""


def main() -> None:
    """Run the command line."""
    app()
