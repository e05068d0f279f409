"""What every benchmark needs: medians, the machine, and a word to whoever waits."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax

# No call is repeated for longer than this, once it was measured three times.
_LONGEST_SECONDS = 5.0


def median_seconds(call: Callable[[], Any], repeats: int = 15, *, warm: bool = False) -> float:
    """Median wall time of a call, its result awaited.

    Args:
        call: what to measure.
        repeats: most calls; fewer where they take long, but three if so many are allowed.
        warm: whether it was called before. Otherwise one call goes first and does not count.
    """
    if not warm:
        jax.block_until_ready(call())
    times = []
    while len(times) < repeats and (len(times) < 3 or sum(times) < _LONGEST_SECONDS):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def announce(what: str) -> None:
    """Say on standard error what is measured next, for whoever waits."""
    print(f"measuring {what} ...", file=sys.stderr, flush=True)


def leave_out(what: str, missing: ImportError) -> None:
    """Say on standard error that something is not measured, since a package is not installed."""
    print(
        f"left out: {what}, as {missing.name} is not installed (pip install 'impindiff[peers]')",
        file=sys.stderr,
        flush=True,
    )


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            named = [
                line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
            ]
        model = named[0] if named else model
    except OSError:
        pass
    device = jax.devices()[0]
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "device": f"{device.platform}: {device.device_kind}",
        "python": platform.python_version(),
        "jax": jax.__version__,
    }
