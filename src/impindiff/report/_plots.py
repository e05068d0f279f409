"""The figures of the report: error against time, loss and validation, solver iterations."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from impindiff.report._format import SUPERSCRIPTS, count, listing, percent, plain, plain_apart
from impindiff.report._load import FieldError, History
from impindiff.report._svg import COLOURS, NUM_SERIES, Legend, Plot, render

_STEPS = [1, 2, 5, 10]
_MAX_POINTS, _MAX_MARKERS = 1500, 40


def plot_errors(
    errors: Mapping[str, FieldError], training_times: Sequence[float], unit: str, digits: int
) -> Plot | None:
    """Relative error against time: L1 solid, L2 dashed; the trained part shaded."""
    if not errors:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for index, error in enumerate(errors.values()):
            colour = COLOURS[_series(index)]
            axes.plot(*_thin(error.time, error.l2), "--", color=colour, linewidth=1.1)
            marker = "o" if len(error.time) <= _MAX_MARKERS else ""
            axes.plot(*_thin(error.time, error.l1), color=colour, marker=marker, markersize=3)
        axes.set_xlabel(f"time [{unit.strip()}]" if unit else "time")
        axes.set_ylabel("relative error [%]")
        axes.margins(x=0.02)
        axes.set_ylim(bottom=0)
        for one in (axes.xaxis, axes.yaxis):
            one.set_major_locator(MaxNLocator(6, steps=_STEPS))
            one.set_major_formatter(_Apart())
        if training_times:
            ends = [time for e in errors.values() for time in (e.time[0], e.time[-1])]
            _mark_training(axes, training_times, min(ends), max(ends))

    legend = []
    for index, name in enumerate(errors):
        legend += [
            Legend(_series(index), f"{name}, L1"),
            Legend(_series(index), f"{name}, L2", dashed=True),
        ]
    known = {name: e.l1[np.isfinite(e.l1)] for name, e in errors.items()}
    ends = [
        f"{name} {percent(l1[0])} to {percent(l1[-1])}" for name, l1 in known.items() if l1.size
    ]
    caption = "Error of the forecast against time, averaged over the samples."
    if training_times:
        which = "line: the training time" if len(training_times) == 1 else "lines: training times"
        caption += f" Vertical {which}, t = {listing(training_times, digits)}{unit}."
    return Plot(
        svg=render("errors", draw, 5.6, 3.1),
        alt=f"Relative L1 error from the first to the last time: {'; '.join(ends)}.",
        caption=caption,
        legend=legend,
    )


def plot_loss(history: History, validation_samples: Sequence[float]) -> Plot | None:
    """Loss and validation error against epoch, both logarithmic, stages of training marked."""
    loss, validation = (_positive(history[name]) for name in ("loss", "validation"))
    curves = [
        (values, label, colour)
        for values, label, colour in (
            (loss, "training loss", "series-0"),
            (validation, "validation error [%]", "series-1"),
        )
        if np.isfinite(values).any()
    ]
    if not curves:
        return None

    def draw(figure: Figure) -> None:
        rows = np.atleast_1d(figure.subplots(len(curves), 1, sharex=True))
        for axes, (values, label, colour) in zip(rows, curves, strict=True):
            known = np.isfinite(values)
            marker = "o" if known.sum() <= _MAX_MARKERS else ""
            # A gap between two validations is no gap; one in the loss is.
            shown = known if colour == "series-1" else slice(None)
            curve = _thin(history["epoch"][shown], values[shown])
            axes.plot(*curve, color=COLOURS[colour], marker=marker, markersize=3)
            axes.set_yscale("log")
            _log_ticks(axes, values[known])
            axes.set_ylabel(label)
            _mark_stages(axes, history, labelled=axes is rows[0])
        rows[-1].set_xlabel("epoch")
        rows[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=_STEPS))

    of = f" of samples {listing(validation_samples)}" if validation_samples else ""
    caption = (
        "Training loss above, validation error below: relative L1 of the forecast"
        f"{of} at the last time observed."
    )
    if len(curves) == 1:
        caption = f"{curves[0][1].capitalize()} against epoch."
    broken = history["epoch"][~np.isfinite(history["loss"])]
    if len(broken):
        caption += f" From epoch {plain(broken[0])} on, some losses are not finite."
    spans = [f"{label} from {_ends(values)}" for values, label, _ in curves]
    return Plot(
        svg=render("loss", draw, 5.6, 3.7 if len(curves) > 1 else 2.6),
        alt=f"Over {count(len(history))} epochs, {'; '.join(spans)}.",
        caption=caption,
        legend=[],
    )


def plot_iterations(history: History) -> Plot | None:
    """Iterations of the forward and of the adjoint solver against epoch."""
    curves = {
        "forward solve": history["solver_iterations"],
        "adjoint solve": history["adjoint_iterations"],
    }
    curves = {name: values for name, values in curves.items() if np.isfinite(values).any()}
    if not curves:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for index, values in enumerate(curves.values()):
            # Dashed and on top, the second does not hide the first where they agree.
            style = "--" if index else "-"
            axes.plot(*_thin(history["epoch"], values), style, color=COLOURS[_series(index)])
        axes.set_ylim(0, 1.08 * max(max(np.nanmax(values) for values in curves.values()), 1))
        axes.set_xlabel("epoch")
        axes.set_ylabel("iterations")
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, steps=_STEPS))
        axes.yaxis.set_major_formatter(_Apart())
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=_STEPS))
        _mark_stages(axes, history, labelled=True)

    means = [f"{name} {np.nanmean(values):.3g}" for name, values in curves.items()]
    return Plot(
        svg=render("iterations", draw, 5.6, 2.6),
        alt=f"Mean number of iterations: {', '.join(means)}.",
        caption=f"Solver iterations, mean over steps and samples ({', '.join(means)} on average).",
        legend=[Legend(_series(i), name, dashed=i > 0) for i, name in enumerate(curves)],
    )


class _Apart(Formatter):
    """Labels of ticks, with the digits that tell them apart."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return plain(x)

    def format_ticks(self, values: Iterable[float]) -> list[str]:
        return plain_apart([float(value) for value in values])


def _mark_training(axes: Axes, training_times: Sequence[float], start: float, end: float) -> None:
    horizon = max(training_times)
    axes.axvspan(
        min(start, *training_times), horizon, color=COLOURS["shade"], linewidth=0, zorder=0
    )
    for time in training_times:
        axes.axvline(time, color=COLOURS["muted"], linewidth=0.9, zorder=1)
    low, high = axes.get_xlim()
    place = (horizon - low) / (high - low)
    labels = [(place - 0.012, "training times", "right")]
    # Too near the end there is no room for it, and at the end nothing beyond.
    if horizon < end and place < 0.88:
        labels.append((place + 0.012, "beyond", "left"))
    for x, words, align in labels:
        axes.text(x, 1.01, words, transform=axes.transAxes, ha=align, va="bottom", fontsize=8)


def _mark_stages(axes: Axes, history: History, *, labelled: bool) -> None:
    starts = [next(group) for _, group in groupby(range(len(history)), lambda i: history.stages[i])]
    low, high = axes.get_xlim()
    free = -math.inf
    for row in starts:
        epoch = float(history["epoch"][row])
        if row:
            axes.axvline(epoch, color=COLOURS["muted"], linewidth=0.9, linestyle=(0, (2, 2)))
        if labelled and history.stages[row]:
            place = axes.get_xaxis_transform()
            text = history.stages[row][:20]
            width = 0.014 * len(text) * (high - low)
            # What would run into its neighbour is left out, its line still stands.
            if epoch < free:
                continue
            is_last = epoch + width > high
            align, free = ("right", high) if is_last else ("left", epoch + width)
            axes.text(epoch, 1.01, text, transform=place, ha=align, va="bottom", fontsize=8)


def _log_ticks(axes: Axes, values: np.ndarray) -> None:
    """Decades, and between them 2 and 5 where there are few: with at least two labels in all."""
    decades = math.log10(values.max() / values.min())
    subs = (1.0,) if decades > 2 else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(10, subs=subs, numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    if decades < 0.5:
        axes.set_ylim(values.min() / 1.8, values.max() * 1.8)


def _power(value: float) -> str:
    if 0.1 <= value < 9999:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(SUPERSCRIPTS)
    return power if mantissa == "1" else f"{mantissa}\u00b7{power}"


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """No more points than a figure can show: every second, third, ..., and the last."""
    stride = -(-len(x) // _MAX_POINTS)
    kept = np.arange(len(x))[:: -max(stride, 1)][::-1]
    return x[kept], y[kept]


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _ends(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{known[0]:.3g} to {known[-1]:.3g}"


def _series(index: int) -> str:
    return f"series-{index % NUM_SERIES}"
