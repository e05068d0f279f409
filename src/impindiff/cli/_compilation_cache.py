"""Compiled programs are kept between commands: compiling is most of what a small training takes.

The cache never stops a command. JAX's own limit on its size comes with a lock, which a stopped
process keeps while others wait ten seconds for each program, and with a file of times beside each
program, without which nothing is written any more. So the limit is kept here, before JAX starts.
"""

import hashlib
import os
import platform
import re
import sys
import warnings
from contextlib import suppress
from pathlib import Path

_MOST_BYTES = 2**30
_FOLDER = "JAX_COMPILATION_CACHE_DIR"
# Machine code is of the processor it was compiled for, and a home may be shared by several.
_PROCESSORS = Path("/proc/cpuinfo")
# What JAX says of a kept program that cannot be read, before it compiles it, and keeps it where
# there is none of that name.
_DAMAGED = "Error reading persistent compilation cache entry for '([\\w-]+)'"
_UNWRITTEN = "Error writing persistent compilation cache entry for '[^']*': (.*)"


def keep_programs() -> None:
    """Have JAX keep what it compiles in the user's cache folder, some 1 GiB; before it is loaded.

    Whoever has set `JAX_COMPILATION_CACHE_DIR` or `JAX_ENABLE_COMPILATION_CACHE` himself is
    obeyed. Where the folder cannot be written to, nothing is kept.
    """
    given = os.environ.get(_FOLDER)
    if given is not None or "JAX_ENABLE_COMPILATION_CACHE" in os.environ:
        _listen(Path(given) if given else None)
        return
    try:
        folder = programs_folder()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if os.access(folder, os.W_OK | os.X_OK):
        os.environ[_FOLDER] = str(folder)
        _drop_oldest(folder)
        _listen(folder)


def _drop_oldest(folder: Path) -> None:
    """Delete the programs that were used least recently, where all are beyond the limit."""
    programs = []
    for file in folder.glob("*-cache"):
        with suppress(OSError):  # another process may delete it, too
            found = file.stat()
            programs.append((max(found.st_atime, found.st_mtime), found.st_size, file))
    excess = sum(size for _, size, _ in programs) - _MOST_BYTES
    for _, size, file in sorted(programs, key=lambda program: program[0]):
        if excess <= 0:
            return
        with suppress(OSError):
            file.unlink()
        excess -= size


def _listen(folder: Path | None) -> None:
    """Hear what JAX warns of: damaged programs are deleted, what cannot be written is said once.

    It keeps good ones where there is none of the program's name, of which the warning tells no
    more: all of that name are compiled again.
    """
    show = warnings.showwarning
    has_warned = False

    def heard(message, *args, **kwargs) -> None:
        nonlocal has_warned
        if found := re.match(_DAMAGED, str(message)):
            for file in folder.glob(f"{found[1]}-*") if folder else ():
                with suppress(OSError):
                    file.unlink()
        elif found := re.match(_UNWRITTEN, str(message)):
            if not has_warned:
                has_warned = True
                where = f" in {folder}" if folder else ""
                print(
                    f"impindiff: warning: compiled programs cannot be kept{where} ({found[1]}): "
                    "the next command compiles them again.",
                    file=sys.stderr,
                )
        else:
            show(message, *args, **kwargs)

    for pattern in (_DAMAGED, _UNWRITTEN):
        warnings.filterwarnings("always", message=pattern)
    warnings.showwarning = heard


def compile_anew() -> None:
    """Have JAX, here and in processes begun here, take nothing that was compiled before.

    What a benchmark measures is a first time.
    """
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"


def programs_folder() -> Path:
    """Where programs for this processor are kept, below `$XDG_CACHE_HOME` or `~/.cache`.

    Raises: RuntimeError where the user has no home.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    above = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return above / "impindiff" / f"programs-{_processor()}"


def _processor() -> str:
    """What the processor can do, as a short name."""
    try:
        lines = _PROCESSORS.read_text(errors="replace").splitlines()
        abilities = [line for line in lines if line.startswith(("flags", "Features", "CPU part"))]
    except OSError:
        abilities = [platform.processor()]
    text = "\n".join([platform.machine(), *sorted(set(abilities))])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
