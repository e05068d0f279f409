"""Compiled programs are kept between commands: compiling is most of what a small training takes."""

import hashlib
import os
import platform
import re
import warnings
from contextlib import suppress
from pathlib import Path

_MOST_BYTES = 2**30
# Machine code is of the processor it was compiled for, and a home may be shared by several.
_PROCESSORS = Path("/proc/cpuinfo")
# What JAX says of a kept program that cannot be read, before it compiles it, and keeps it where
# there is none of that name.
_DAMAGED = "Error reading persistent compilation cache entry for '([\\w-]+)'"


def keep_programs() -> None:
    """Have JAX keep what it compiles in the user's cache folder, up to 1 GiB; before it is loaded.

    Whoever has set `JAX_COMPILATION_CACHE_DIR` or `JAX_ENABLE_COMPILATION_CACHE` himself is
    obeyed. Where the folder cannot be written to, nothing is kept.
    """
    if {"JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"} & os.environ.keys():
        return
    try:
        folder = programs_folder()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if os.access(folder, os.W_OK | os.X_OK):
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_MOST_BYTES))
        _drop_damaged(folder)


def _drop_damaged(folder: Path) -> None:
    """Delete programs that cannot be read as soon as JAX warns of them, so that it keeps good ones.

    All of the program's name, of which the warning tells no more: they are compiled again.
    """
    show = warnings.showwarning

    def show_or_drop(message, *args, **kwargs) -> None:
        if not (found := re.match(_DAMAGED, str(message))):
            return show(message, *args, **kwargs)
        for file in folder.glob(f"{found[1]}-*"):
            with suppress(OSError):
                file.unlink()

    warnings.filterwarnings("always", message=_DAMAGED)
    warnings.showwarning = show_or_drop


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
    told = "\n".join([platform.machine(), *sorted(set(abilities))])
    return hashlib.sha256(told.encode()).hexdigest()[:12]
