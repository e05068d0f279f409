"""Progress bars; they show nothing where there is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from impindiff.cli._console import console
from impindiff.train import EpochRecord, Watcher


@contextmanager
def forecast_bar(until: float) -> Iterator[Callable[[float], None]]:
    """A bar to be moved by calls with the time reached.

    Args:
        until: the time to reach.
    """
    bar = Progress(
        TextColumn("[bold]forecast[/] to t = {task.fields[time]}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None, time="...")
        before: float | None = None

        def watch(time: float) -> None:
            nonlocal before
            before = time if before is None else before
            bar.update(task, total=until - before, completed=time - before, time=f"{time:g}")

        yield watch


@contextmanager
def training_bar() -> Iterator[tuple[Callable[[int], None], Watcher]]:
    """A progress bar with rate, loss, validation error and time left.

    Gives what is to be called with the most epochs that there will be, and with every epoch.
    """
    bar = Progress(
        TextColumn("[bold]{task.fields[stage]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[errors]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    validation = "-"
    before: float | None = None
    with bar:
        task = bar.add_task("", total=None, completed=0, stage="compiling", rate="", errors="")

        def expect(num_epochs: int) -> None:
            bar.update(task, total=num_epochs)

        def watch(record: EpochRecord) -> None:
            nonlocal validation, before
            if record.validation is not None:
                validation = f"{record.validation:.3g} %"
            step = record.seconds - before if before is not None else None
            before = record.seconds
            bar.update(
                task,
                completed=record.epoch,
                stage=f"{record.stage}, stopped early" if record.stopped_early else record.stage,
                rate=f"{1 / step:.1f} epochs/s" if step else "",
                errors=f"loss {record.loss:.2e}  validation {validation}",
            )

        yield expect, watch
