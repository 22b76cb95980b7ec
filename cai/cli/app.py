"""The app that every command joins, and how a command ends when something is wrong."""

import functools
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from cai.errors import CaiError

app = typer.Typer(
    help="Control as inference: exact posterior, variational and hard optimum of any finite world.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def told(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the errors that cai raises on purpose, and Ctrl-C, into one clear message and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except CaiError as error:
            _stop(str(error), 2)
        except BrokenPipeError:  # somebody took the first lines and left
            sys.stdout = None
            raise typer.Exit(0) from None
        except OSError as error:
            _stop(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), 2)
        except KeyboardInterrupt:
            _stop("interrupted", 130)

    return wrapped


def _stop(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        print(f"cai: {line}", file=sys.stderr)
    raise typer.Exit(code)


def _print_version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import version

        print(version("cai"))
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Control as inference: exact posterior, variational and hard optimum of any finite world."""


def main() -> None:
    """Run the command line."""
    app()
