"""Writing a forecast while people watch, and what they read where it stops."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from impindiff._errors import InputError, NumericsError
from impindiff.cli._console import complain
from impindiff.cli._progress import forecast_bar
from impindiff.cli._show import balance_lines, halved_lines
from impindiff.runs import RunFolder, forecast_run_to


def write_forecast(
    run: Path, initial: Path, out: Path, until: float, every: float | None, start: str | None
) -> str:
    """Carry out the command `forecast`; returns what was written, in a line."""
    again = ["forecast", run, "--initial", out, "--from", "last", "--until", until, "--out", out]
    again += [] if every is None else ["--every", every]
    with _kept_on_stop(out, again) as note, forecast_bar(until) as draw:

        def watch(time: float) -> None:
            note(time)
            draw(time)

        found = forecast_run_to(RunFolder(run), initial, out, until, every, start, watch)
    first, last = found.times[[0, -1]]
    written = f"{out}: {found.num_samples} samples, {found.times.size} times"
    lines = [f"{written} from {first:g} to {last:g}"]
    lines += halved_lines(found.halved)
    return "\n".join(lines + balance_lines(found.balances or {}))


@contextmanager
def _kept_on_stop(out: Path, again: list[object]) -> Iterator[Callable[[float], None]]:
    """Say how far a forecast came that is written in pieces and stops, and how to go on.

    Gives what is to be called with every time that was reached.
    """
    reached: list[float] = []
    try:
        yield reached.append
    except (KeyboardInterrupt, InputError, NumericsError):
        if reached:
            complain(
                "stopped",
                f"{out} holds the forecast to t = {reached[-1]:g}. To go on: "
                + shlex.join(["impindiff", *map(str, again)]),
            )
        raise
