"""What learned functions expect of their inputs, held against the data before training."""

import numpy as np
from numpy.typing import ArrayLike

from impindiff._errors import InputError
from impindiff.latent import ConvolutionalClosure, NeuralClosure, check_spans, latents_of
from impindiff.systems import System
from impindiff.train._observations import Observations

# An input in a range that is [-1, 1] to the network is then within [-1.2, 1.2].
_MARGIN = 0.1
# What noise of a normal distribution does to one reading in sixteen thousand.
_SPREADS = 4.0


def check_expected(system: System, observations: Observations) -> None:
    """Refuse learned functions whose inputs, as far as data hold them, lie beyond their ranges.

    A range is left where data lie outside of it by more than a tenth of its width, four standard
    deviations of their noise taken off, as far as it is known. That a range is wider than the data
    is no matter: forecasts may need it. Looked at are the fields, at the start and where they are
    read one by one, the settings, the axes, and the time.

    Raises: InputError for the first such input, with both ranges and what to write; and for a field
        whose span leaves out training times.
    """
    check_spans(system, observations.start, max(observations.times), "training")
    found = _found(system, observations)
    for latent in latents_of(system):
        if not isinstance(latent, NeuralClosure | ConvolutionalClosure):
            continue
        for name, (low, high) in zip(latent.arguments, latent.ranges, strict=True):
            if name not in found:
                continue
            least, most = found[name]
            slack = _MARGIN * (high - low)
            if least < low - slack or most > high + slack:
                wanted = _round_about(least, most)
                raise InputError(
                    f"the learned function {latent.label} expects {name!r} in ({low:g}, {high:g}), "
                    f"but in the data it lies in ({least:.4g}, {most:.4g}): its network is made "
                    "for its range, and learns little beyond. Write "
                    f"{{{name!r}: ({wanted[0]:g}, {wanted[1]:g})}}, or wider where forecasts go "
                    "farther."
                )


def _found(system: System, observations: Observations) -> dict[str, tuple[float, float]]:
    """Within which values the data hold what has a name."""
    grid = system.grid
    solid = None if grid is None else grid.solid
    parts: list[tuple[str, np.ndarray, np.ndarray]] = []

    def add(name: str, values: ArrayLike, spread: ArrayLike = 0.0, in_cells: bool = False) -> None:
        values, spread = np.broadcast_arrays(values, np.nan_to_num(spread))
        if in_cells and solid is not None:
            values, spread = values[..., ~solid], spread[..., ~solid]
        known = ~np.isnan(values)
        parts.append((name, values[known], _SPREADS * spread[known]))

    for field, values in observations.initial.items():
        add(field, np.asarray(values), in_cells=True)
    for name, values in observations.observed.items():
        operator = observations.operators.get(name)
        field = name if operator is None else getattr(operator, "field", None)
        if field in system.fields:
            spread = np.asarray(observations.deviations.get(name, 0.0))
            add(str(field), np.asarray(values), spread, operator is None)
    for name, values in observations.settings.items():
        add(name, np.asarray(values))
    add("t", [observations.start, max(observations.times)])
    for name, centres in () if grid is None else zip(grid.names, grid.centres(), strict=True):
        add(name, centres)
    found: dict[str, tuple[float, float]] = {}
    for name, values, spread in parts:
        if not values.size or (least := (values + spread).min()) > (
            most := (values - spread).max()
        ):
            continue  # nothing but noise
        before = found.get(name, (np.inf, -np.inf))
        found[name] = min(before[0], float(least)), max(before[1], float(most))
    return found


def _round_about(least: float, most: float) -> tuple[float, float]:
    """A range around values, with ends that are easily written."""
    width = most - least or abs(most) or 1.0
    digits = -int(np.floor(np.log10(width)))
    step = 10.0**-digits
    return (
        float(round(np.floor(least / step) * step, digits)),
        float(round(np.ceil(most / step) * step, digits)),
    )
