"""Numbers as small integers, and back as colours or heights.

A picture needs no more than 255 values, so a frame travels as one byte a cell, a curve as two.
The largest code of all is kept for "no value": what is NaN or infinite in the data stays
visible as a gap.
"""

import math
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from impindiff.report._format import plain_apart


@dataclass(frozen=True)
class Scale:
    """The interval of values that the codes 0 to `missing` - 1 divide evenly.

    Codes of maps take one byte, those of curves two: `missing` is the largest such number.
    """

    low: float
    high: float
    missing: int

    def encode(self, values: np.ndarray) -> bytes:
        """Values as codes, little-endian; values beyond an end take its code."""
        part = (values.astype(np.float64) - self.low) / (self.high - self.low)
        known = np.isfinite(part)
        codes = np.rint(np.clip(np.where(known, part, 0), 0, 1) * (self.missing - 1))
        codes = np.where(known, codes, self.missing)
        return codes.astype("<u1" if self.missing < 256 else "<u2").tobytes()


def curve_codes(view: Scale, values: np.ndarray) -> Scale:
    """What the codes of a curve divide: its axis and what of it lies beyond, within reason.

    So a curve leaves its frame through the edge; along the edge it would be taken for values.
    """
    low, high = _range(values)
    reach = 15 * (view.high - view.low)
    low, high = max(low, view.low - reach), min(high, view.high + reach)
    return Scale(min(low, view.low), max(high, view.high), view.missing)


def value_scale(truth: np.ndarray | None, forecast: np.ndarray, missing: int) -> Scale:
    """One scale for truth and forecast: the truth's range, and the forecast's where it is near.

    A forecast that ran away must not flatten the truth: where the truth is known it widens the
    scale by at most a quarter of the truth's range on either side, for curves by three times that
    range, since no colour stands for what is beyond. Elsewhere the scale holds all.
    """
    is_curve = missing > 255
    low, high = _range(forecast)
    if truth is not None and np.isfinite(truth).any():
        truth_low, truth_high = _range(truth)
        margin = (3 if is_curve else 0.25) * (truth_high - truth_low)
        low = min(truth_low, max(low, truth_low - margin))
        high = max(truth_high, min(high, truth_high + margin))
        # Doubles: the truth may be beyond what a forecast of single precision can hold.
        alone = forecast[np.isfinite(forecast) & ~np.isfinite(truth)].astype(np.float64)
        low, high = float(alone.min(initial=low)), float(alone.max(initial=high))
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        margin = 0.5 * abs(low) or 1.0
        low, high = low - margin, high + margin
    return _padded(low, high) if is_curve else Scale(low, high, missing)


def _padded(low: float, high: float) -> Scale:
    """For curves: none runs along the edge of its frame."""
    margin = 0.04 * (high - low)
    return Scale(low - margin, high + margin, 65535)


def _range(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)


def error_scale(error: np.ndarray, missing: int) -> Scale:
    """A scale about zero: for maps wide enough for all but one error in a thousand."""
    known = np.abs(error[np.isfinite(error)])
    most = float(known.max()) if known.size else 0.0
    if missing > 255:
        return _padded(-(most or 1.0), most or 1.0)
    reach = float(np.quantile(known, 0.999)) if known.size else 0.0
    reach = reach or most or 1.0
    return Scale(-reach, reach, missing)


def colour_table(name: str) -> list[str]:
    """The 255 colours of a matplotlib colour map, as `rrggbb`."""
    colours = matplotlib.colormaps[name](np.linspace(0, 1, 255), bytes=True)
    return [bytes(colour[:3]).hex() for colour in colours]


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in percent of its length."""

    label: str
    place: float


def ticks(low: float, high: float, at_most: int = 4, room: float = math.inf) -> list[Tick]:
    """Round numbers between `low` and `high`.

    Args:
        low: where the axis begins.
        high: where it ends.
        at_most: into how many intervals they divide it.
        room: how many letters fit along it, one label beside the other.
    """
    span = high - low
    values = MaxNLocator(nbins=at_most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    values = [0.0 if abs(value) < 1e-9 * span else float(value) for value in values]
    inside = [value for value in values if low - 1e-6 * span <= value <= high + 1e-6 * span]
    places = [round(100 * (value - low) / span, 3) for value in inside]
    marks = [Tick(*pair) for pair in zip(plain_apart(inside), places, strict=True)]
    for fewer in (marks, marks[:: max(len(marks) - 1, 1)]):
        if sum(len(mark.label) + 1 for mark in fewer) <= room:
            return fewer
    return marks[len(marks) // 2 :][:1]


@dataclass(frozen=True)
class PixelAxis:
    """An axis cut into pixels of equal width, each of which shows the cell its centre lies in.

    A uniform axis with few enough cells keeps them all; a stretched one is sampled.
    """

    cells: np.ndarray
    low: float
    high: float

    def ticks(self, at_most: int, room: float = math.inf) -> list[Tick]:
        """Ticks in the axis's own coordinate, see `ticks`."""
        return ticks(self.low, self.high, at_most, room)


def pixel_axis(coordinate: np.ndarray, max_pixels: int) -> PixelAxis:
    """Cut the axis with these cell centres, in any order, into at most `max_pixels` pixels."""
    order = np.argsort(coordinate, kind="stable")
    centres = coordinate[order].astype(np.float64)
    widths = np.diff(centres)
    if len(centres) < 2 or not np.isfinite(centres).all() or widths.min() <= 0:
        order = centres = np.arange(len(coordinate))
        widths = np.ones(max(len(coordinate) - 1, 1))
    between = 0.5 * (centres[1:] + centres[:-1])
    low, high = centres[0] - 0.5 * widths[0], centres[-1] + 0.5 * widths[-1]
    uniform = widths.max() < 1.01 * widths.min()
    num_pixels = -(-len(centres) // -(-len(centres) // max_pixels)) if uniform else max_pixels
    pixels = low + (high - low) * (np.arange(num_pixels) + 0.5) / num_pixels
    return PixelAxis(order[np.searchsorted(between, pixels)], float(low), float(high))
