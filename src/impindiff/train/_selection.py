"""Which of the data's times are trained on, and the state that each reading is one of.

Readings may be repeated: several at one time, each in a row of its own. The simulation saves the
state once, and all of them are compared with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.data import check_once, select_times, times_of
from impindiff.observe import AbstractOperator, CellValues
from impindiff.systems import InitialTime, System


def check_start(
    system: System, dataset: xr.Dataset, begin: InitialTime, times: Any = None
) -> InitialTime:
    """Refuse data that begin before initial values of the system hold: what is their past to it?

    Raises: InputError.
    """
    # A start between two of the data's times leaves nothing out of times that are named.
    is_named = begin.position is None and times is not None
    first = times_of(dataset)[0]
    if system.initial and begin.position != 0 and begin.time > first and not is_named:
        raise InputError(
            f"start is {begin.time:.12g}, when the initial values of the system hold, but the data "
            f"begin earlier, at {first:.12g}: leave the times before the start out, "
            f"dataset.sel(time=slice({begin.time:.12g}, None))."
        )
    return begin


@final
class Selection(NamedTuple):
    """Times to train on.

    Attributes:
        positions: of the readings along the data's `time`.
        clock: the times of all data.
    """

    positions: list[int]
    clock: np.ndarray

    @property
    def times(self) -> tuple[float, ...]:
        """Times of the states, increasing, each once."""
        return tuple(np.unique(self.clock[self.positions]).tolist())

    @property
    def rows(self) -> tuple[int, ...]:
        """For each reading its state, counted in `times`; empty where there is one for each."""
        if len(self.times) == len(self.positions):
            return ()
        return tuple(np.searchsorted(self.times, self.clock[self.positions]).tolist())

    @classmethod
    def of(
        cls,
        dataset: xr.Dataset,
        times: Sequence[float] | np.ndarray | None,
        begin: InitialTime,
        learned_start: bool,
    ) -> "Selection":
        """Select and check.

        Args:
            dataset: the data.
            times: which times, those read again included; all after the start by default.
            begin: when samples start.
            learned_start: whether something is learned of where they start, so that what was read
                then says something.

        Raises: InputError for times that the data do not have, none at all, or one at or before
            the start.
        """
        clock, start = times_of(dataset), begin.time
        if begin.position is not None:
            # Of times that went through float32 the start is the one that it was taken for.
            clock = np.where(clock == clock[begin.position], start, clock)
        if times is None:
            when = np.flatnonzero(clock > start).tolist()
        else:
            first = select_times(dataset, times)
            when = np.flatnonzero(np.isin(clock, clock[first])).tolist()
        if when and clock[when[0]] < start:
            raise InputError(
                f"training time {clock[when[0]]:g} lies before the start, {start:g}: leave it out "
                "of the training times, or start earlier."
            )
        if when and clock[when[0]] == start and not learned_start:
            raise InputError(
                f"training time {start:g} is the initial time, whose fields are given and not "
                "predicted: leave it out of the training times, or learn where a field begins, "
                "Field(..., initial=...)."
            )
        if not when:
            raise InputError(
                f"the data end at their initial time, {start:g}: there is nothing to fit."
            )
        return cls(when, clock)

    def observed(self, found: Mapping[str, np.ndarray]) -> tuple["Selection", dict]:
        """Without times at which nothing was read; all where nothing was at any."""
        known = [
            (~np.isnan(values)).any(axis=(0, *range(2, values.ndim))) for values in found.values()
        ]
        some = np.any(known, axis=0)
        kept = np.flatnonzero(some if some.any() else ~some)
        left = Selection([self.positions[k] for k in kept], self.clock)
        return left, {name: values[:, kept] for name, values in found.items()}

    def check_fields_once(
        self, dataset: xr.Dataset, operators: Mapping[str, AbstractOperator]
    ) -> None:
        """Refuse fields on a grid that were observed, cell by cell, twice at one time.

        Raises: InputError.
        """
        fields = [name for name, of in operators.items() if isinstance(of, CellValues)]
        check_once(dataset, fields)
