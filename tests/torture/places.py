"""Places that do not let anything be written, and surroundings that lack what is usual."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from small_problem import losses
from workshop import Row, Workshop, end

_HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
input()
"""


@contextmanager
def _nothing(shop: Workshop) -> Iterator[None]:
    yield


def try_places(shop: Workshop) -> list[Row]:
    """Train in each, then say what came of it."""
    return [
        _refused(shop, "disk full (limit on a file's size)", _small_files),
        _refused(shop, "disk full (small tmpfs)", _small_disk),
        _refused(shop, "read-only disk", _read_only),
        _works(shop, "HOME unset", _unset("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR")),
        _works(shop, "HOME does not exist", _set(HOME="/proc/no", XDG_CACHE_HOME="/proc/no")),
        _works(shop, "TMPDIR missing", _set(TMPDIR=str(shop.folder / "no such"))),
        _works(shop, "standard output closed", {}, shell='exec "$@" >&-'),
        _works(shop, "TERM=dumb", _set(TERM="dumb")),
        _works(shop, "C locale", _set(LC_ALL="C", LANG="C", PYTHONUTF8="0")),
        _works(
            shop,
            "compile cache: lock held by a stopped process",
            {"JAX_COMPILATION_CACHE_DIR": None, "XDG_CACHE_HOME": str(shop.folder / "cache")},
            _stopped_lock,
        ),
        _works(shop, "compile cache: not writable", _set(JAX_COMPILATION_CACHE_DIR="/proc")),
    ]


def _unset(*names: str) -> dict[str, str | None]:
    return dict.fromkeys(names)


def _set(**values: str) -> dict[str, str | None]:
    return {**values}


def _works(
    shop: Workshop, name: str, changes: dict[str, str | None], around=_nothing, shell=""
) -> Row:
    """A training that must end well, with the history of the undisturbed one."""
    row, out = Row(name, 1), shop.folder / f"in {name}".replace(":", "")
    changed = {**shop.environment, **changes}
    environment = {key: value for key, value in changed.items() if value is not None}
    with around(shop):
        status, err = end(shop.train(out, env=environment, shell=shell))
    if status or "Traceback" in err:
        row.losses.append(f"status {status}: {err[-1500:]}")
    elif losses(out) != losses(shop.whole[0]):
        row.losses.append("another history")
    lines = [line for line in err.splitlines() if line.strip()]
    row.found = "same history" + (f", {len(lines)} lines of warning" if lines else "")
    return row


def _refused(shop: Workshop, name: str, around) -> Row:
    """A training that must end with status 2 and one message, and go on where there is room."""
    row, out = Row(name, 1), shop.folder / f"in {name}"
    with around(shop, out) as options:
        if options is None:
            return Row(name, 0, [], "not possible for this user")
        status, err = end(shop.train(options.pop("out", out), **options))
    if status != 2 or "Traceback" in err or err.count("\n") != 1:
        row.losses.append(f"status {status}: {err[-1500:]}")
    row.found = "one message, status 2"
    if out.exists():
        status, err = end(shop.train(out))
        if status or losses(out) != losses(shop.whole[0]):
            row.losses.append(f"does not go on: status {status}: {err[-1500:]}")
        row.found += "; continues to the same history"
    return row


@contextmanager
def _small_files(shop: Workshop, out: Path) -> Iterator[dict | None]:
    environment = {**shop.environment, "JAX_COMPILATION_CACHE_DIR": ""}
    yield {"shell": 'ulimit -f 40; exec "$@"', "env": environment}  # blocks of 512 bytes


@contextmanager
def _small_disk(shop: Workshop, out: Path) -> Iterator[dict | None]:
    with _mounted(shop.folder / "small", "size=160k") as disk:
        yield None if disk is None else {"out": disk / "run"}
        if disk is not None and (disk / "run").exists():
            subprocess.run(["cp", "-r", str(disk / "run"), str(out)], check=True)


@contextmanager
def _read_only(shop: Workshop, out: Path) -> Iterator[dict | None]:
    with _mounted(shop.folder / "read-only", "ro") as disk:
        yield None if disk is None else {"out": disk / "run"}


@contextmanager
def _mounted(place: Path, options: str) -> Iterator[Path | None]:
    place.mkdir()
    given = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(given, capture_output=True).returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def _stopped_lock(shop: Workshop) -> Iterator[None]:
    environment = {**shop.environment, "XDG_CACHE_HOME": str(shop.folder / "cache")}
    del environment["JAX_COMPILATION_CACHE_DIR"]
    end(shop.start("cases", env=environment))  # which makes the folder
    (programs,) = (shop.folder / "cache" / "impindiff").iterdir()
    given = [sys.executable, "-c", _HOLD, str(programs / ".lockfile")]
    with subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            holder.kill()
