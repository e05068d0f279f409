"""Latents of the user's own have the ranges, spans, tables and numbers that those of ours have."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import make_dataset

import impindiff as ipd
from impindiff import InputError
from impindiff.latents import AbstractClosure, AbstractLatent, tabulate
from impindiff.train import Observations, check_expected

NAME = "concentration"
DATA = make_dataset((12,))  # from 0.5 to 1.5 at first
GRID = ipd.grid_of(DATA, NAME)


class Slope(AbstractLatent, AbstractClosure):
    """A function of the concentration through zero."""

    slope: Any
    range: tuple[float, float] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True, default=("rate",))
    arguments: tuple[str, ...] = eqx.field(static=True, default=(NAME,))

    @property
    def input_ranges(self) -> dict[str, tuple[float, float]]:
        return {NAME: self.range}

    def evaluate(self, grid, time=None, values=None) -> Any:
        return self.slope * (values or {})[NAME]


class Ramp(AbstractLatent):
    """A number that grows with time, for a few times."""

    speed: Any
    span: tuple[float, float] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True, default=("ramp",))

    @property
    def is_steady(self) -> bool:
        return False

    @property
    def time_span(self) -> tuple[float, float]:
        return self.span

    def evaluate(self, grid, time=None) -> Any:
        return self.speed * (0.0 if time is None else time)


class Number(AbstractLatent):
    """A number as it is."""

    value: Any
    names: tuple[str, ...] = eqx.field(static=True, default=("number",))
    is_number: ClassVar[bool] = True

    @property
    def is_steady(self) -> bool:
        return True

    def evaluate(self, grid, time=None) -> Any:
        return self.value


def system(term) -> ipd.System:
    return ipd.System(GRID, {NAME: [term]})


def check(term) -> None:
    made = system(term)
    check_expected(made, Observations.of(made, DATA, "0:2"))


def test_data_beyond_its_ranges_are_refused():
    check(ipd.Reaction(Slope(slope=jnp.asarray(-0.1), range=(0.0, 2.0))))
    with pytest.raises(InputError, match=r"rate\(concentration\) expects 'concentration' in"):
        check(ipd.Reaction(Slope(slope=jnp.asarray(-0.1), range=(0.0, 1.0))))


def test_times_beyond_its_span_are_refused():
    check(ipd.Source(Ramp(speed=jnp.asarray(0.1), span=(0.0, 0.2))))
    with pytest.raises(InputError, match=r"the field ramp has the time span \(0, 0.1\)"):
        check(ipd.Source(Ramp(speed=jnp.asarray(0.1), span=(0.0, 0.1))))


@pytest.mark.thorough
def test_it_is_tabulated_and_stands_in_forecasts():
    learned = Slope(slope=jnp.asarray(-0.5), range=(0.0, 2.0))
    np.testing.assert_allclose(tabulate(learned, num=3)["rate"], [0.0, -0.5, -1.0])
    with pytest.raises(InputError, match="give a range for concentration"):
        tabulate(ipd.latents.Closure(lambda concentration: concentration))
    found = ipd.predict(system(ipd.Reaction(learned)), DATA, times=[0.1], dt=0.1)
    table = found["rate"]
    assert table.dims == ("rate_concentration",)
    np.testing.assert_allclose(table, -0.5 * table["rate_concentration"], rtol=1e-6)


def test_a_number_is_one_number_in_forecasts():
    found = ipd.predict(
        system(ipd.Diffusion(Number(value=jnp.asarray(0.1)))), DATA, times=[0.1], dt=0.1
    )
    assert found["number"].dims == () and float(found["number"]) == pytest.approx(0.1)
