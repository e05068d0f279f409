"""The entry point, which also works where the installation does not."""

import atexit
import codecs
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import Any, NoReturn

from impindiff._errors import REQUESTS
from impindiff.cli._compilation_cache import compile_anew, keep_programs

# As `_errors.INTERRUPTED`, which cannot be imported before all is known to be there.
_INTERRUPTED = 130
_PATHS = "impindiff.paths"


def _as_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write the bytes of a path that are no text as they are, and what a terminal lacks escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    try:
        return text.encode(error.encoding, "surrogateescape"), error.end
    except UnicodeEncodeError:
        return text.encode("ascii", "backslashreplace"), error.end


codecs.register_error(_PATHS, _as_bytes)

Handler = Callable[[int, Any], Any] | signal.Handlers | int | None


def main() -> None:
    """Run the command `impindiff`.

    Where a package that the command line itself needs is missing or broken, says what is wrong
    with the installation and exits with status 2.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_PATHS)
    # Called last: when Python takes itself down, it would be killed by whatever request comes.
    atexit.register(handle_requests, signal.SIG_IGN)
    # Until the command takes over: an exception would end in the middle of some import.
    handle_requests(_end_at_once)
    try:
        from impindiff.cli._app import app
    except ImportError:
        from impindiff.cli._doctor import diagnose, render

        print(render(diagnose()), file=sys.stderr)
        sys.exit(2)
    # Before JAX is loaded, which the commands do.
    compile_anew() if sys.argv[1:2] == ["benchmark"] else keep_programs()
    try:
        app()
    finally:
        # All is said and saved. Python waits for threads that compile, and interrupted at that it
        # would take down what they use: crash, at worst.
        handle_requests(lambda *_: os._exit(_INTERRUPTED))
        _end_standard_output()


def _open_closed_streams() -> None:
    """Give standard streams that the process was started without to the null device.

    Python has None for them, and the next file that is opened would get their number: what some
    library prints would be written into a checkpoint.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _end_standard_output() -> None:
    """Have what functions of the user's print yet, at exit or in threads, go to standard error."""
    with suppress(OSError, ValueError):  # nobody reads on, or the disk is full
        sys.stdout.flush()
    with suppress(OSError):
        os.dup2(2, 1)


def handle_requests(handler: Handler) -> dict[int, Handler]:
    """Have requests to end handled, but for those that the process was told to ignore.

    Args:
        handler: as `signal.signal` takes it.

    Returns: the handlers of before, by signal.
    """
    before: dict[int, Handler] = {}
    for number in REQUESTS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, handler)
    return before


def _end_at_once(number: int, frame: object) -> NoReturn:
    os.write(2, b"impindiff: interrupted: nothing was done.\n")
    os._exit(_INTERRUPTED)
