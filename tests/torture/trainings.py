"""Trainings killed at random moments, and at those where most is at risk."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from small_problem import losses
from workshop import OTHER_SIGNALS, Row, Workshop, end, kill, leftovers

AIMS = ("start", "copying", "checkpoint", "report")
# So many kills until a run is let go on to its end and compared.
KILLS_A_RUN = 5


@dataclass
class Found:
    """What a run of many kills came to."""

    kills: int = 0
    aimed: int = 0
    others: int = 0
    lost: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def kill_trainings(shop: Workshop, number: int) -> list[Row]:
    """Kill trainings so many times, three tenths aimed, a quarter by other signals than SIGKILL."""
    run, seconds = shop.whole
    expected, names = losses(run), sorted(path.name for path in run.iterdir())
    numbers = range(0, number, KILLS_A_RUN)
    sizes = [min(KILLS_A_RUN, number - first) for first in numbers]
    one = partial(_one_run, shop, expected, names, seconds)
    runs = shop.map(lambda pair: one(*pair), list(zip(numbers, sizes, strict=True)))
    total = {name: [x for r in runs for x in getattr(r, name)] for name in _KINDS}
    kills, aimed, others = (sum(getattr(r, n) for r in runs) for n in ("kills", "aimed", "others"))
    what = f"{aimed} aimed, {others} by other signals"
    return [
        Row("kill a training: runs lost", kills, total["lost"], what),
        Row("... histories that differ", len(runs), total["other"], f"{len(expected)} epochs each"),
        Row("... folders unusable", len(runs), total["unusable"], "forecast from each"),
        Row("... leftovers", len(runs), total["left"], ""),
        Row("... wrong status, or a traceback", kills, total["wrong"], "130 where it can be"),
    ]


_KINDS = ("lost", "other", "unusable", "left", "wrong")


def _one_run(
    shop: Workshop, expected: list, names: list[str], seconds: float, first: int, size: int
) -> Found:
    found, rng = Found(), shop.random("training", first)
    out = shop.folder / f"run {first}"
    for index in range(first, first + size):
        # Fixed shares, whatever the scale: 3 of 10 aimed, 1 of 4 by another signal.
        aim = AIMS[(index // 3) % len(AIMS)] if index % 10 in (0, 4, 8) else ""
        by = OTHER_SIGNALS[index // 4 % len(OTHER_SIGNALS)] if index % 4 == 1 else signal.SIGKILL
        for attempt in range(4):
            if attempt or (out / "report.html").exists() or aim in ("start", "copying"):
                # It ended before the kill, or has no such moment any more: another run.
                _compare(shop, out, expected, names, found)
                out = shop.folder / f"run {index} {attempt}"
            process = shop.train(out)
            began = time.monotonic()
            after = _moment(aim, out, began, rng.random(), seconds)
            if kill(process, by, after, 3 * seconds + 30):
                found.kills += 1
                found.aimed += bool(aim)
                found.others += by != signal.SIGKILL
                _check_end(process, by, f"kill {index} ({aim or 'random'}, {by.name})", found)
                break
            end(process)
        else:
            found.wrong.append(f"kill {index}: the moment ({aim or 'random'}) never came")
    _compare(shop, out, expected, names, found)
    return found


def _moment(aim: str, out: Path, began: float, chance: float, seconds: float) -> Callable[[], bool]:
    """When to kill: at any time of an undisturbed run, or soon after what is aimed at is seen."""
    if aim == "start":
        return lambda: time.monotonic() - began > 1.5 * chance
    if not aim:
        return lambda: time.monotonic() - began > seconds * chance
    seen: list[float] = []
    patterns = {
        "copying": (".*", "law.py", "physics.py", "config.toml"),
        "checkpoint": ("checkpoints/.writing-*",),
        "report": ("forecast.nc", "summary.json"),
    }[aim]

    # Not always the first checkpoint, which is only tried.
    wait = chance * seconds / 2 if aim == "checkpoint" else 0.0

    def is_now() -> bool:
        if not seen and time.monotonic() - began < wait:
            return False
        if not seen and any(next(out.glob(pattern), None) for pattern in patterns):
            seen.append(time.monotonic() + chance * (0.01 if aim != "report" else 1.0))
        return bool(seen) and time.monotonic() >= seen[0]

    return is_now


def _check_end(process, by: signal.Signals, what: str, found: Found) -> None:
    status, err = end(process)
    allowed = {-signal.SIGKILL} if by == signal.SIGKILL else {130, 0}
    # Before Python has set its handlers a signal does what the system says.
    if status == -by and not err:
        allowed.add(status)
    if status not in allowed or "Traceback" in err:
        found.wrong.append(f"{what}: status {status}: {err[-1500:]}")


def _compare(shop: Workshop, out: Path, expected: list, names: list[str], found: Found) -> None:
    """Let a run go on to its end, and hold it against the undisturbed one."""
    if not out.exists():
        return
    if not (out / "report.html").exists():
        status, err = end(shop.train(out))
        if status:
            found.lost.append(f"{out.name}: --resume ended with {status}: {err[-1500:]}")
            return
    if losses(out) != expected:
        found.other.append(f"{out.name}: {len(losses(out))} epochs")
    if missing := set(names) - {path.name for path in out.iterdir()}:
        found.unusable.append(f"{out.name}: without {sorted(missing)}")
    target = shop.folder / f"{out.name}.nc"
    status, err = end(
        shop.start("forecast", out, "--initial", shop.data, "--until", 0.3, "--out", target)
    )
    if status:
        found.unusable.append(f"{out.name}: forecast ended with {status}: {err[-500:]}")
    found.left += [f"{out.name}: {name}" for name in leftovers(out)]
