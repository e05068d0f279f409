"""Small mistakes put into the package one at a time, and how many of them the quick tests find.

    make mutants                                  all of them
    make mutants ONLY=film                        those with this in their name
    python tests/mutants --only film --only newton --jobs 2

For each entry of `mutations.py` the source is copied to a temporary folder, the mistake made in
the copy, and the tests named beside it run against the copy, up to the first that fails. A mistake
counts as found only where that same test passes against the package as it is. Tests that import
another package than the copy, or do not run at all, are an error and no finding.

Exit status: 0 where at least 90 % are found, 1 where fewer are, 2 where the table does not fit the
package or tests did not run.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mistakes import SOURCE, Mutation
from mutations import MUTATIONS

TESTS = Path(__file__).parents[1]
ENOUGH = 0.9
# Seconds for the tests of one mistake. It may make a loop endless, or a busy machine be slow: which
# of the two is not known, so that it counts as missed.
_LONGEST = 300

# Beside the copy, and read by pytest as a plugin: whether the copy is what is imported, and which
# test fails first.
_PLUGIN = """
import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def pytest_configure(config):
    found = importlib.util.find_spec("impindiff")
    if found is None or not found.origin or HERE not in Path(found.origin).resolve().parents:
        pytest.exit(f"another package would be imported: {found}", returncode=9)


def pytest_runtest_logreport(report):
    if report.failed:
        with open(HERE / "failed", "a", encoding="utf-8") as file:
            file.write(report.nodeid + "\\n")


def pytest_sessionfinish(session):
    imported = sys.modules.get("impindiff")
    if imported is not None and HERE not in Path(imported.__file__).resolve().parents:
        session.exitstatus = 9
"""


class Trial(NamedTuple):
    """What came of the tests of one mutation.

    Attributes:
        mutation: the mistake.
        found_by: the first test that fails; empty where all pass, or do not end.
        error: what pytest said where it did not run the tests.
        seconds: how long they took.
    """

    mutation: Mutation
    found_by: str
    error: str
    seconds: float


class Ran(NamedTuple):
    """One run of pytest.

    Attributes:
        status: its exit status; 0 where it was ended, since it took too long.
        failed: the tests that fail.
        said: the end of what it printed.
    """

    status: int
    failed: list[str]
    said: str


def run_tests(place: Path, selection: Sequence[str], longest: float | None = None) -> Ran:
    """Run tests against the package in a folder, for so many seconds at most."""
    (place / "mutants_plugin.py").write_text(_PLUGIN, encoding="utf-8")
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "mutants_plugin", "--tb=line"]
    command += ["-p", "no:cacheprovider", *selection]
    environment = os.environ | {"PYTHONPATH": str(place)}
    try:
        done = subprocess.run(
            command,
            cwd=TESTS.parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=longest,
        )
    except subprocess.TimeoutExpired:
        return Ran(0, [], "")
    log = place / "failed"
    failed = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return Ran(done.returncode, failed, (done.stdout + done.stderr)[-2000:])


def copy_of_package(place: Path) -> None:
    """Copy the package's source, without what was compiled of it."""
    shutil.copytree(SOURCE, place / SOURCE.name, ignore=shutil.ignore_patterns("__pycache__"))


def try_one(mutation: Mutation) -> Trial:
    """Make one mistake in a copy of the package, and run its tests."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        place = Path(folder)
        copy_of_package(place)
        mutation.apply(place / SOURCE.name)
        status, failed, said = run_tests(place, ["-x", *mutation.selection], _LONGEST)
    seconds = time.monotonic() - began
    if status == 1 and failed:
        return Trial(mutation, failed[0], "", seconds)
    return Trial(mutation, "", "" if status == 0 else f"status {status}: {said}", seconds)


def failing_anyway(tests: Sequence[str]) -> list[str]:
    """Those of some tests that fail against the package as it is."""
    if not tests:
        return []
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        place = Path(folder)
        copy_of_package(place)
        status, failed, said = run_tests(place, tests)
    if status not in (0, 1):
        sys.exit(f"the tests that found something do not run against the package: {said}")
    return failed


def main() -> int:
    """Try the mutations and print the table; returns the exit status."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument(
        "--only", action="append", metavar="NAME", help="those with this in its name"
    )
    asked.add_argument("--jobs", type=int, default=1, help="mutations at a time (1)")
    given = asked.parse_args()
    chosen = [m for m in MUTATIONS if not given.only or any(part in m.name for part in given.only)]
    if not chosen:
        names = ", ".join(m.name for m in MUTATIONS)
        print(f"no mutation has {' or '.join(given.only)} in its name; there are {names}.")
        return 2
    if stale := [m.misfit for m in chosen if m.misfit]:
        print("\n".join(stale), file=sys.stderr)
        return 2

    began = time.monotonic()
    print("| mutation | file | found by | seconds |\n|---|---|---|---|", flush=True)
    trials = []
    with ThreadPoolExecutor(given.jobs) as pool:
        for trial in pool.map(try_one, chosen):
            trials.append(trial)
            found = "(error)" if trial.error else trial.found_by or "MISSED"
            row = f"| {trial.mutation.name} | {trial.mutation.file} | {found} |"
            print(f"{row} {trial.seconds:.0f} |", flush=True)
    broken = set(failing_anyway(sorted({t.found_by for t in trials} - {""})))
    errors = [f"{t.mutation.name}: {t.error}" for t in trials if t.error]
    errors += [f"{name} fails against the package as it is" for name in sorted(broken)]
    found = [t for t in trials if t.found_by and t.found_by not in broken]
    share = len(found) / len(trials)
    seconds = time.monotonic() - began
    print(f"\nfound {len(found)} of {len(trials)} ({share:.0%}), {seconds:.0f} s")
    if missed := [t.mutation for t in trials if not t.found_by and not t.error]:
        print("missed:")
        for m in missed:
            print(f"  {m.name}: {m.file}: {m.text!r} -> {m.instead!r}")
    for error in errors:
        print(error, file=sys.stderr)
    return 2 if errors else int(share < ENOUGH)


if __name__ == "__main__":
    sys.exit(main())
