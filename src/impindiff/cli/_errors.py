"""Errors as the command line shows them: one message and an exit status."""

import functools
import os
import shlex
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from impindiff._errors import FolderLostError, InputError, NumericsError, numerics_errors
from impindiff.cli._console import answers_alone, complain
from impindiff.cli._main import handle_requests

if TYPE_CHECKING:
    from impindiff.runs import RunFolder

P = ParamSpec("P")
R = TypeVar("R")

INPUT_WRONG, NUMERICS_FAILED, INTERRUPTED = 2, 3, 130


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """A command that ends with exit status 2, 3 or 130 where the plain one would raise.

    Other requests to end are treated as Ctrl-C is, so that what was trained is saved.
    """

    def attempt(*args: P.args, **kwargs: P.kwargs) -> R:
        before = handle_requests(_interrupt)
        _first_request.clear()
        sys.unraisablehook, hook = _insist, sys.unraisablehook
        try:
            with numerics_errors(), _warnings_once(), answers_alone():
                return command(*args, **kwargs)
        except InputError as error:
            complain("error", str(error))
            raise typer.Exit(INPUT_WRONG) from None
        except NumericsError as error:
            complain("numerics failed", str(error))
            raise typer.Exit(NUMERICS_FAILED) from None
        except FolderLostError as error:
            complain("stopped", str(error))
            raise typer.Exit(NUMERICS_FAILED) from None
        except KeyboardInterrupt as error:
            handle_requests(signal.SIG_IGN)  # it ends already
            complain("interrupted", "nothing more was done.")
            _abandon(error)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Nobody reads on. Python would try once more at its end, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else _lost_folder()
            complain("error", f"{where}{error.strerror or error}.")
            raise typer.Exit(INPUT_WRONG) from None
        except UnicodeEncodeError as error:
            text = str(error.object[max(0, error.start - 40) : error.end + 40])
            complain(
                "error",
                f"{text}: is no text in {error.encoding}, and cannot be written. Rename the file "
                "or folder, or set LC_ALL=C.UTF-8.",
            )
            raise typer.Exit(INPUT_WRONG) from None
        except SystemExit as error:
            complain(
                "error",
                f"something that this command called ended it by sys.exit({error.code!r}): a "
                "function of yours must raise an error instead.",
            )
            raise typer.Exit(INPUT_WRONG) from None
        except RecursionError as error:
            complain(
                "error",
                f"a table is nested too deeply, or a function calls itself without end: {error}.",
            )
            raise typer.Exit(INPUT_WRONG) from None
        except MemoryError as error:
            complain("error", f"not enough memory: {error}. Take fewer samples, times or cells.")
            raise typer.Exit(INPUT_WRONG) from None
        except RuntimeError as error:
            if (found := _of_the_machine(str(error))) is None:
                raise
            complain("error", found)
            raise typer.Exit(INPUT_WRONG) from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            # Others that came to it since stay: threads go on.
            if sys.unraisablehook in (_insist, _ignore):
                sys.unraisablehook = hook

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return attempt(*args, **kwargs)
        except KeyboardInterrupt:  # another request, just as the first was about to be told
            handle_requests(signal.SIG_IGN)
            complain("interrupted", "nothing more was done.")
            raise typer.Exit(INTERRUPTED) from None

    return run


@contextmanager
def saved_on_failure(folder: "RunFolder") -> Iterator[None]:
    """Say what there is of a run that is stopped, or whose numerics fail, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        handle_requests(signal.SIG_IGN)  # or the message might be lost
        if folder.holds_run:
            again = ["train", folder.config_file, "--out", folder.path, "--resume"]
            complain(
                "stopped",
                f"{folder.standing()} To go on: " + shlex.join(["impindiff", *map(str, again)]),
            )
        raise
    except NumericsError:
        if folder.checkpoints.progress() is not None:
            complain(
                "stopped",
                f"{folder.path} keeps the last good checkpoint, and 'impindiff forecast' works "
                f"from it. To train on other terms, change a copy of {folder.config_file} and "
                "give it another --out.",
            )
        raise


@contextmanager
def _warnings_once() -> Iterator[None]:
    """Show what this package warns of as messages, each once; Python would show lines of code."""
    shown: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def tell(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> None:
            if category is not RuntimeWarning:
                show(message, category, *args, **kwargs)
            elif str(message) not in shown:
                shown.add(str(message))
                complain("warning", str(message))

        warnings.showwarning = tell
        yield


def _of_the_machine(text: str) -> str | None:
    """What is to be said of an error of JAX that is the machine's; None for any other."""
    first = next(iter(text.splitlines()), "")
    if "Unable to initialize backend" in first or "Unknown backend" in first:
        asked = os.environ.get("JAX_PLATFORMS")
        named = f"JAX_PLATFORMS={asked}: " if asked else ""
        found = first.split(" (set ")[0].rstrip(".")
        return (
            f"{named}{found}. Set JAX_PLATFORMS=cpu for the processor, or unset it; "
            "`impindiff doctor` says which devices JAX finds."
        )
    if "RESOURCE_EXHAUSTED" in first:
        return f"not enough memory: {first}. Take fewer samples, times or cells."
    return None


def _lost_folder() -> str:
    """What is to be said where paths lead nowhere, since the folder they start from was deleted."""
    try:
        os.getcwd()
    except OSError:
        return "the folder that this command was started in is gone, change to another: "
    return ""


class Interrupted(KeyboardInterrupt):
    """A request to end.

    A class of its own: where exactly a KeyboardInterrupt leaves code that `exec` runs, as in the
    making of a dataclass, Python ends by SIGINT later on, whoever handled it.
    """


_IMPORTS = "<frozen importlib._bootstrap"
# An import takes a second or two. One of a user's module may never end.
_PATIENCE_SECONDS = 15.0
_first_request: list[float] = []


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupt, but in the middle of an import: when it has ended.

    Modules of native code that are interrupted while they start take the process down by SIGSEGV
    or SIGABRT, and the commands load theirs when they begin.
    """
    while frame is not None and not frame.f_code.co_filename.startswith(_IMPORTS):
        frame = frame.f_back
    if frame is not None:
        _first_request.append(now := time.monotonic())
        if now - _first_request[0] < _PATIENCE_SECONDS:
            _send_again(number)
            return
    raise Interrupted


def _abandon(error: BaseException) -> None:
    """Let go of what an interrupt left half made, whose destructors may well fail."""
    sys.unraisablehook = _ignore
    ended: BaseException | None = error
    while ended is not None:
        traceback.clear_frames(ended.__traceback__)
        ended = ended.__context__


def _ignore(unraisable: Any) -> None:
    pass


def _send_again(number: int) -> None:
    """Send a signal to this process once more, a moment from now."""
    timer = threading.Timer(0.01, signal.pthread_kill, [threading.main_thread().ident, number])
    timer.daemon = True
    timer.start()


def _insist(unraisable: Any) -> None:
    """Interrupt once more where a callback swallowed it: JAX has one in the garbage collector."""
    try:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            _send_again(signal.SIGINT)
        else:
            sys.__unraisablehook__(unraisable)
    except KeyboardInterrupt:  # in here it would be swallowed, too
        _send_again(signal.SIGINT)
