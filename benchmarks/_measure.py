"""What every benchmark needs: medians, the machine, and one way to print rows."""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

# No call is repeated for longer than this, once it was measured three times.
_LONGEST_SECONDS = 5.0


def median_seconds(call: Callable[[], Any], repeats: int = 15) -> float:
    """Median wall time of a call, its result awaited; one call before that does not count."""
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


def publish(
    name: str, rows: Sequence[dict[str, Any]], arguments: Sequence[str] | None = None
) -> None:
    """Print rows as a table, or with `--json` as one JSON object."""
    parser = argparse.ArgumentParser(description=name)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    if parser.parse_args(arguments).json:
        print(json.dumps({"benchmark": name, "machine": machine(), "rows": list(rows)}))
        return
    print(f"{name} on {machine()}")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        print(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
