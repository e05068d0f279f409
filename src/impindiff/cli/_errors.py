"""Errors as the command line shows them: one message and an exit status."""

import functools
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import typer

from impindiff._errors import InputError, NumericsError
from impindiff.cli._console import complain

if TYPE_CHECKING:
    from impindiff.runs import RunFolder

P = ParamSpec("P")
R = TypeVar("R")

INPUT_WRONG, NUMERICS_FAILED, INTERRUPTED = 2, 3, 130


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """A command that ends with exit status 2, 3 or 130 where the plain one would raise.

    A request to terminate is treated as Ctrl-C is, so that what was trained is saved.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            return command(*args, **kwargs)
        except InputError as error:
            complain("error", str(error))
            raise typer.Exit(INPUT_WRONG) from None
        except NumericsError as error:
            complain("numerics failed", str(error))
            raise typer.Exit(NUMERICS_FAILED) from None
        except KeyboardInterrupt:
            complain("interrupted", "nothing more was done.")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(0) from None

    return run


@contextmanager
def saved_on_failure(folder: "RunFolder") -> Iterator[None]:
    """Say how to go on with a run that is stopped, or whose numerics fail."""
    try:
        yield
    except (KeyboardInterrupt, NumericsError):
        if folder.holds_run:
            again = f"impindiff train {folder.config_file} --out {folder.path} --resume"
            complain("stopped", f"what was trained is saved in {folder.path}. To go on: {again}")
        raise


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
