"""Forecasts killed while they are written, gone on with, and compared with one that was not."""

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from workshop import OTHER_SIGNALS, Row, Workshop, end, kill

from impindiff import InputError, open_dataset

UNTIL, EVERY = 200.0, 0.05
KILLS_A_STORE = 10


@dataclass
class Found:
    """What some kills came to."""

    kills: int = 0
    stores: int = 0
    lost: list[str] = field(default_factory=list)
    times: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    largest: float = 0.0


def kill_forecasts(shop: Workshop, number: int) -> list[Row]:
    """Kill forecasts so many times, the first of a store and those that go on with it."""
    run, _ = shop.whole
    whole = shop.folder / "whole.zarr"
    began = time.monotonic()
    _end_well(shop, run, whole)
    seconds = time.monotonic() - began
    expected = open_dataset(whole)

    def one(first: int) -> Found:
        found = Found()
        size = min(KILLS_A_STORE, number - first)
        _kill_some(shop, run, expected, seconds, first, size, found)
        return found

    all_found = shop.map(one, range(0, number, KILLS_A_STORE))
    stores, unlike = sum(f.stores for f in all_found), max(f.largest for f in all_found)
    exact = "bit for bit" if unlike == 0 else f"by {unlike:.1e} of the largest at most"
    left = [path.name for path in shop.folder.glob(".*")]

    def row(fault: str, tried: int, name: str, what: str) -> Row:
        return Row(fault, tried, [loss for f in all_found for loss in getattr(f, name)], what)

    return [
        row(
            "kill a forecast: stores lost",
            sum(f.kills for f in all_found),
            "lost",
            f"{expected.sizes['time']} times in pieces of 10",
        ),
        row("... times that differ", stores, "times", "bit for bit"),
        row("... states that differ", stores, "states", exact),
        Row("... leftovers", stores, left),
    ]


def _kill_some(
    shop: Workshop, run: Path, expected, seconds: float, first: int, size: int, found: Found
) -> None:
    rng, store = shop.random("forecast", first), shop.folder / f"f{first}.zarr"
    for index in range(first, first + size):
        by = OTHER_SIGNALS[index // 4 % len(OTHER_SIGNALS)] if index % 4 == 1 else signal.SIGKILL
        for attempt in range(4):
            if _length(store) == expected.sizes["time"]:
                _compare(store, expected, found)
                store = shop.folder / f"f{index}-{attempt}.zarr"
            length, after = _length(store), seconds * (0.25 + 0.6 * rng.random())
            process = _begin(shop, run, store)
            moment = time.monotonic() + after
            is_killed = kill(process, by, lambda: time.monotonic() > moment, 120)  # noqa: B023
            _, err = end(process)
            what = f"{store.name}, kill {index} ({by.name})"
            if "Traceback" in err:
                found.lost.append(f"{what}: {err[-1500:]}")
            if _length(store) < length:
                found.lost.append(f"{what}: {_length(store)} times of {length}")
            if is_killed:
                found.kills += 1
                break
    if _length(store) < expected.sizes["time"]:
        _end_well(shop, run, store, found.lost)
    _compare(store, expected, found)


def _begin(shop: Workshop, run: Path, store: Path):
    """Begin a forecast, or go on with one."""
    source = (store, "--from", "last") if store.exists() else (shop.data,)
    asked = ("--until", UNTIL, "--every", EVERY, "--out", store)
    return shop.start_in_pieces("forecast", run, "--initial", *source, *asked)


def _end_well(shop: Workshop, run: Path, store: Path, lost: list[str] | None = None) -> None:
    status, err = end(_begin(shop, run, store))
    if status and lost is None:
        raise RuntimeError(f"the undisturbed forecast failed: {err}")
    if status and lost is not None:
        lost.append(f"{store.name}: status {status}: {err[-1500:]}")


def _compare(store: Path, expected, found: Found) -> None:
    name = "concentration"
    found.stores += 1
    if not store.exists():
        return
    ended = open_dataset(store)
    if not np.array_equal(ended["time"], expected["time"]):
        found.times.append(f"{store.name}: {ended.sizes['time']} times")
        return
    largest = float(np.abs(expected[name]).max())
    unlike = float(np.abs(ended[name] - expected[name]).max()) / largest
    found.largest = max(found.largest, unlike)
    # Round-off of single precision; what was lost or mixed up is far beyond.
    if unlike > 1e-5:
        found.states.append(f"{store.name}: by {unlike}")


def _length(store: Path) -> int:
    """Times that a store holds; it must be readable at any moment."""
    try:
        return open_dataset(store).sizes["time"] if store.exists() else 0
    except InputError:
        return -1
