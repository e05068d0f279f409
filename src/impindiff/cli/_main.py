"""The entry point, which also works where the installation does not."""

import codecs
import os
import signal
import sys
from io import TextIOWrapper

from impindiff.cli._kept_programs import compile_anew, keep_programs

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


def main() -> None:
    """Run the command `impindiff`.

    Where a package that the command line itself needs is missing or broken, says what is wrong
    with the installation and exits with status 2.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_PATHS)
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
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
