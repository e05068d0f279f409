"""What a forecast says of the balances of its system: kept as it is computed, in numbers alone."""

from collections.abc import Mapping
from contextlib import suppress
from typing import final

import jax
import numpy as np
import xarray as xr
from pydantic import BaseModel, TypeAdapter, ValidationError

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.data import source_of
from impindiff.systems import System, balances, relative_defect

ATTRIBUTE = "balances"


class BalanceScore(BaseModel):
    """How well something that must stay the same has stayed the same in a forecast.

    Attributes:
        units: of the changes.
        worst_defect: what the changes of all parts add up to, relative to the largest; the worst
            of all samples and times.
        changes: of each part from the start of the forecast to its last time, by sample.
    """

    units: str
    worst_defect: float
    changes: dict[str, list[float]]


@final
class Ledger:
    """The balances of some samples from their initial states on, piece by piece.

    Args:
        system: the equations.
        initial: for each field and integral an array `(sample, *grid)`.
        sample_parameters: of each sample, see `System`.
        time: of the initial states.
        before: the balances of a forecast that ends there and is continued.
    """

    def __init__(
        self,
        system: System,
        initial: State,
        sample_parameters: State,
        time: float,
        before: Mapping[str, BalanceScore] | None = None,
    ) -> None:
        self._system, self._initial, self._sample_parameters, self._time = (
            system,
            initial,
            sample_parameters,
            time,
        )
        self._before = before or {}
        # By balance and sample: the largest change, the least that is told from round-off, what the
        # changes miss zero by, the last ones.
        self._largest: dict[str, np.ndarray] = {}
        self._least: dict[str, np.ndarray] = {}
        self._missed: dict[str, np.ndarray] = {}
        self._last: dict[str, dict[str, list[float]]] = {}

    def add(self, times: np.ndarray, states: Mapping[str, np.ndarray]) -> None:
        """Take in what was forecast: states `(sample, time, *grid)`."""
        if not self._system.accounts.balances or not len(times):
            return
        clock = np.concatenate([[self._time], times])
        count = len(next(iter(self._initial.values())))
        self._last = {}
        for sample in range(count):
            first, given = jax.tree.map(
                lambda u, k=sample: u[k], (self._initial, self._sample_parameters)
            )
            along = {f: np.concatenate([first[f][None], u[sample]]) for f, u in states.items()}
            found = balances(self._system.with_sample_parameters(given), along, clock)
            for name, of in found.items():
                changes = {
                    part: change + self._changed(name, part, sample)
                    for part, change in of.changes.items()
                }
                each = np.stack(list(changes.values()))
                for kept, size in (
                    (self._largest, np.max(np.abs(each))),
                    (self._least, of.least),
                    (self._missed, np.max(np.abs(each.sum(axis=0)))),
                ):
                    values = kept.setdefault(name, np.zeros(count))
                    values[sample] = max(values[sample], size)
                last = self._last.setdefault(name, {part: [] for part in changes})
                for part, change in changes.items():
                    last[part].append(float(change[-1]))

    def _changed(self, name: str, part: str, sample: int) -> float:
        """By how much a part had changed where this begins."""
        known = self._before[name].changes.get(part) if name in self._before else None
        return known[sample] if known else 0.0

    @property
    def scores(self) -> dict[str, BalanceScore]:
        """The balances up to now."""
        units, found = dict(self._system.units), {}
        for name, largest in self._largest.items():
            defects = relative_defect(self._missed[name], largest, self._least[name])
            worst = float(np.max(defects))
            if name in self._before:
                worst = max(worst, self._before[name].worst_defect)
            found[name] = BalanceScore(
                units=units.get(name, "1"), worst_defect=worst, changes=self._last[name]
            )
        return found

    @property
    def attributes(self) -> dict[str, str]:
        """The same as attributes of a dataset."""
        if not (scores := self.scores):
            return {}
        return {ATTRIBUTE: _ADAPTER.dump_json(scores).decode()}


def balances_of(forecast: xr.Dataset) -> dict[str, BalanceScore]:
    """The balances that are noted in a forecast; none where there are none.

    Raises: InputError for a note that is damaged.
    """
    noted = forecast.attrs.get(ATTRIBUTE)
    if noted is None:
        return {}
    with suppress(ValidationError):
        found = _ADAPTER.validate_json(noted)
        lengths = {len(each) for of in found.values() for each in of.changes.values()}
        if lengths <= {forecast.sizes.get("sample")}:
            return found
    raise InputError(
        f"{source_of(forecast)}: the attribute {ATTRIBUTE!r} was changed, and does not say how the "
        "balances stand. Write the forecast again."
    )


_ADAPTER = TypeAdapter(dict[str, BalanceScore])
