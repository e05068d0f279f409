"""What is lost where processes are killed, compete, or find no place to write: one table.

    make torture                            all of it
    python tests/torture --scale 0.1        a tenth of the kills

Each row counts what was tried and what was lost by it; a loss anywhere gives exit status 1. All is
done by the command line in processes of its own, in a folder that is removed at the end.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from competing import compete
from forecasts import kill_forecasts
from places import try_places
from trainings import kill_trainings
from workshop import Row, Workshop

KILLS, FORECAST_KILLS = 200, 100
PARTS = ("trainings", "forecasts", "competing", "places")


def main() -> int:
    """Run all parts and print the table; returns the exit status."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--scale", type=float, default=1.0, help="share of the kills (1.0)")
    asked.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    asked.add_argument("--workers", type=int, default=2, help="processes at a time (2)")
    asked.add_argument("--part", action="append", choices=PARTS, help="only this; may be repeated")
    given = asked.parse_args()

    def scaled(number: int) -> int:
        return max(4, round(number * given.scale))

    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(given.workers) as pool,
    ):
        shop = Workshop(Path(folder), pool, given.seed)
        rows: list[Row] = []
        print("| fault | tried | lost | what was found |\n|---|---|---|---|", flush=True)
        parts = {
            "trainings": lambda: kill_trainings(shop, scaled(KILLS)),
            "forecasts": lambda: kill_forecasts(shop, scaled(FORECAST_KILLS)),
            "competing": lambda: compete(shop, max(3, round(25 * min(1.0, given.scale * 2)))),
            "places": lambda: try_places(shop),
        }
        for part in (parts[name] for name in given.part or parts):
            for row in part():
                rows.append(row)
                line = f"| {row.fault} | {row.tried} | {len(row.losses)} | {row.found} |"
                print(line, flush=True)
            print(f"after {time.monotonic() - began:.0f} s", file=sys.stderr)
    for row in rows:
        for loss in row.losses:
            print(f"LOST: {row.fault}: {loss}", file=sys.stderr)
    return int(any(row.losses for row in rows))


if __name__ == "__main__":
    sys.exit(main())
