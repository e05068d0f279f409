"""Forecasts killed while they are written, gone on with, and compared with one that was not."""

import signal
import time
from pathlib import Path

import numpy as np
from workshop import OTHER_SIGNALS, Row, Workshop, end, kill

from impindiff import InputError, open_dataset

UNTIL, EVERY = 60.0, 0.05
KILLS_A_STORE = 10


def kill_forecasts(shop: Workshop, number: int) -> list[Row]:
    """Kill forecasts so many times, the first of a store and those that go on with it."""
    run, _ = shop.whole
    whole = shop.folder / "whole.zarr"
    asked = ("--until", UNTIL, "--every", EVERY)
    given = ("forecast", run, "--initial", shop.data, *asked, "--out", whole)
    began = time.monotonic()
    status, err = end(shop.start_in_pieces(*given))
    if status:
        raise RuntimeError(f"the undisturbed forecast failed: {err}")
    seconds = time.monotonic() - began
    expected = open_dataset(whole)
    firsts = range(0, number, KILLS_A_STORE)

    def one(first: int) -> tuple[int, list[str], list[str], list[str], float]:
        return _one_store(shop, run, expected, seconds, first, min(KILLS_A_STORE, number - first))

    stores = shop.map(one, firsts)
    kills = sum(store[0] for store in stores)
    unlike = max(store[4] for store in stores)
    sizes = f"{expected.sizes['time']} times each"
    left = [path.name for path in shop.folder.glob(".*")]
    return [
        Row("kill a forecast: stores lost", kills, [x for s in stores for x in s[1]], sizes),
        Row("... times that differ", len(stores), [x for s in stores for x in s[2]], "bit for bit"),
        Row(
            "... states that differ",
            len(stores),
            [x for s in stores for x in s[3]],
            "bit for bit" if unlike == 0 else f"by {unlike:.1e} of the largest at most",
        ),
        Row("... leftovers", len(stores), left, ""),
    ]


def _one_store(
    shop: Workshop, run: Path, expected, seconds: float, first: int, size: int
) -> tuple[int, list[str], list[str], list[str], float]:
    rng, store, kills = shop.random("forecast", first), shop.folder / f"f{first}.zarr", 0
    lost: list[str] = []
    asked = ("--until", UNTIL, "--every", EVERY, "--out", store)
    for index in range(first, first + size):
        by = OTHER_SIGNALS[index // 4 % len(OTHER_SIGNALS)] if index % 4 == 1 else signal.SIGKILL
        source = (store, "--from", "last") if store.exists() else (shop.data,)
        length = _length(store)
        process = shop.start_in_pieces("forecast", run, "--initial", *source, *asked)
        began, moment = time.monotonic(), seconds * (0.3 + 0.5 * rng.random())
        kills += kill(process, by, lambda: time.monotonic() - began > moment, 120)  # noqa: B023
        _, err = end(process)
        if "Traceback" in err:
            lost.append(f"{store.name}, kill {index}: {err[-1500:]}")
        if _length(store) < length:
            lost.append(f"{store.name}, kill {index}: {_length(store)} times of {length}")
    if _length(store) < expected.sizes["time"]:
        source = (store, "--from", "last") if store.exists() else (shop.data,)
        status, err = end(shop.start_in_pieces("forecast", run, "--initial", *source, *asked))
        if status:
            return kills, [*lost, f"{store.name}: status {status}: {err[-1500:]}"], [], [], 0.0
    found = open_dataset(store)
    if not np.array_equal(found["time"], expected["time"]):
        return kills, lost, [f"{store.name}: {found.sizes['time']} times"], [], 0.0
    name = "concentration"
    largest = float(np.abs(expected[name]).max())
    unlike = float(np.abs(found[name] - expected[name]).max()) / largest
    # Round-off of single precision; what was lost or mixed up is far beyond.
    return kills, lost, [], [f"{store.name}: by {unlike}"] if unlike > 1e-5 else [], unlike


def _length(store: Path) -> int:
    """Times that a store holds; it must be readable at any moment."""
    try:
        return open_dataset(store).sizes["time"] if store.exists() else 0
    except InputError:
        return -1
