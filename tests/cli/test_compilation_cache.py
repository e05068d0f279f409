"""Programs that are kept between commands: where, for whom, and not for benchmarks."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from impindiff.cli import _compilation_cache, _main
from impindiff.cli._compilation_cache import keep_programs, programs_folder

FOLDER, ENABLED = "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    found = {k: v for k, v in os.environ.items() if k not in (FOLDER, ENABLED)}
    monkeypatch.setattr(os, "environ", found)
    found["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    with warnings.catch_warnings():  # keeping programs listens to warnings
        yield


def test_programs_are_kept_in_the_users_cache(tmp_path: Path):
    keep_programs()
    assert Path(os.environ[FOLDER]).is_dir()
    assert Path(os.environ[FOLDER]).parent == tmp_path / "cache" / "impindiff"
    assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ, "its lock may be held for ever"


def test_beyond_the_limit_those_used_least_recently_go(monkeypatch: pytest.MonkeyPatch):
    keep_programs()
    files = [programs_folder() / f"jit_{name}-00ff-cache" for name in "abcd"]
    for age, file in enumerate(files):
        file.write_bytes(bytes(100))
        os.utime(file, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(_compilation_cache, "_MOST_BYTES", 250)
    del os.environ[FOLDER]
    keep_programs()
    assert [file.exists() for file in files] == [True, True, False, False]


def test_a_program_that_is_old_and_was_used_lately_stays(monkeypatch: pytest.MonkeyPatch):
    """Read or written, whichever was later; a disk may keep only one of these times."""
    keep_programs()
    files = [programs_folder() / f"jit_{name}-00ff-cache" for name in "abc"]
    for file, times in zip(files, ((9e8, 1e9), (1e9, 9e8), (9.5e8, 9.5e8)), strict=True):
        file.write_bytes(bytes(100))
        os.utime(file, times)
    monkeypatch.setattr(_compilation_cache, "_MOST_BYTES", 250)
    del os.environ[FOLDER]
    keep_programs()
    assert [file.exists() for file in files] == [True, True, False]


def test_that_nothing_can_be_kept_is_said_once(capsys: pytest.CaptureFixture, tmp_path: Path):
    os.environ[FOLDER] = str(tmp_path)
    keep_programs()
    for name in ("jit_a", "jit_b"):
        warnings.warn(
            f"Error writing persistent compilation cache entry for '{name}': OSError: full",
            stacklevel=1,
        )
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"cannot be kept in {tmp_path} (OSError: full)" in said


@pytest.mark.slow
@pytest.mark.parametrize("hindrance", ["lock", "orphan", "no room", "read-only", "no home"])
def test_a_cache_never_stops_a_command(tmp_path: Path, hindrance: str):
    """A lock held by a stopped process, a program without its time, a full disk, no place."""
    environment = {**os.environ, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    folder, limit, holder = programs_folder(), "", None
    folder.mkdir(parents=True)
    if hindrance == "lock":
        holding = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2)\n"
        holding += "print(flush=True); input()"
        given = [sys.executable, "-c", holding, str(folder / ".lockfile")]
        holder = subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdout and holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
    elif hindrance == "orphan":
        (folder / "jit_orphan-00ff-cache").write_bytes(b"damaged")
    elif hindrance == "no room":
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))"
    elif hindrance == "read-only":
        environment["XDG_CACHE_HOME"] = "/proc"
    else:
        environment = {k: v for k, v in environment.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    code = f"""
{limit}
from impindiff.cli._compilation_cache import keep_programs
keep_programs()
import jax
for n in range(3):
    jax.jit(lambda x: x + n).lower(1.0).compile()
"""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    if holder:
        holder.kill()
        holder.communicate()
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 9, "JAX waits ten seconds for each program"
    assert done.stderr.count("\n") == (hindrance == "no room"), done.stderr


@pytest.mark.parametrize("name, value", [(FOLDER, ""), (FOLDER, "/other"), (ENABLED, "false")])
def test_what_the_user_says_of_it_holds(name: str, value: str):
    os.environ[name] = value
    keep_programs()
    assert {k: os.environ.get(k) for k in (FOLDER, ENABLED) if k in os.environ} == {name: value}


def test_without_a_folder_to_write_to_nothing_is_kept(tmp_path: Path):
    (tmp_path / "cache").write_text("a file, where a folder is wanted")
    keep_programs()
    assert FOLDER not in os.environ


def test_a_relative_cache_folder_is_not_one():
    os.environ["XDG_CACHE_HOME"] = "cache"
    assert programs_folder().is_relative_to(Path.home())


def test_another_processor_has_programs_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = set()
    for flags in ("flags\t: sse2", "flags\t: sse2 avx512f", "Features\t: asimd"):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\nMHz\t: 1\n{flags}\n")
        monkeypatch.setattr(_compilation_cache, "_PROCESSORS", tmp_path / "cpuinfo")
        names.add(programs_folder().name)
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t: sse2\nMHz\t: 2\n")
    assert len(names) == 3 and programs_folder().name in names


@pytest.mark.parametrize("command, kept", [("cases", True), ("benchmark", False)])
def test_a_benchmark_measures_a_first_time(
    command: str, kept: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["impindiff", command])
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit):
            _main.main()
    finally:
        signal.signal(signal.SIGINT, before)  # which a process that ends needs no more
    assert (FOLDER in os.environ, os.environ.get(ENABLED)) == (kept, None if kept else "false")


def test_a_damaged_program_is_deleted_and_no_other(recwarn: pytest.WarningsRecorder):
    keep_programs()
    damaged, other = (programs_folder() / f"jit_{name}-00ff-cache" for name in ("step", "steps"))
    for file in (damaged, other):
        file.write_text("")
    warnings.warn(
        "Error reading persistent compilation cache entry for 'jit_step': why", stacklevel=1
    )
    assert other.exists() and not damaged.exists()
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warnings, "showwarning", lambda message, *rest: told.append(str(message)))
        keep_programs()
        warnings.warn("something else", stacklevel=1)
    assert told == ["something else"]


@pytest.mark.slow
def test_where_one_was_damaged_a_good_one_is_kept(tmp_path: Path):
    code = """
import os
from impindiff.cli._compilation_cache import keep_programs
keep_programs()
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
import jax
jax.jit(lambda x: x + 1).lower(1.0).compile()
"""
    sizes = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], env=dict(os.environ), capture_output=True
        )
        assert done.returncode == 0 and not done.stderr, done.stderr.decode()
        (program,) = programs_folder().glob("*-cache")
        sizes.append(program.stat().st_size)
        program.write_bytes(b"damaged")
    assert sizes[0] == sizes[1] > 100
