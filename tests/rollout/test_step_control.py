"""Steps that follow their error: as exact as asked, and a message where that cannot be."""

import gc
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from gradients import taylor_rates

import impindiff as ipd
from impindiff import InputError, NumericsError
from impindiff.integrate import AbstractDynamics, AbstractTendency
from impindiff.rollout._remember import remember
from impindiff.steppers import (
    ESDIRK3,
    ESDIRK4,
    ESDIRK5,
    BogackiShampine3,
    StepControl,
    Tsitouras5,
    simulate_controlled,
    stable_dt,
)

CELLS = 24


def rod(offset: float = 0.0, unit: float = 1.0, **field: Any) -> ipd.System:
    """Heat in a rod between cold ends."""
    grid = ipd.Grid([ipd.Axis("x", 0.0, 1.0, CELLS)])
    ends = {"x": ipd.Dirichlet(offset)}
    return ipd.System(grid, {"u": ipd.Field([ipd.Diffusion(1.0 / unit)], ends, **field)})


def hot(offset: float = 0.0, dtype: Any = jnp.float64) -> dict[str, jax.Array]:
    x = (np.arange(CELLS) + 0.5) / CELLS
    return {"u": jnp.asarray(offset + np.sin(np.pi * x) + 0.3 * np.sin(3 * np.pi * x), dtype)}


def decayed(times: np.ndarray) -> np.ndarray:
    """Each mode of the scheme decays at a rate of its own: its ends are half a cell away."""
    h, x = 1 / CELLS, (np.arange(CELLS) + 0.5) / CELLS
    found = np.zeros((len(times), CELLS))
    for size, mode in ((1.0, 1), (0.3, 3)):
        rate = (2 * np.sin(np.pi * mode * h / 2) / h) ** 2
        found += size * np.exp(-rate * times)[:, None] * np.sin(np.pi * mode * x)
    return found


class Two(AbstractTendency):
    """$0 = 2 - z$."""

    has_storage = True
    algebraic = ("z",)

    def __call__(self, state):
        return {"z": 2 - state["z"]}

    def stored(self, state):
        return {"z": jnp.zeros_like(state["z"])}


class Equation(AbstractDynamics):
    has_storage = True

    def at(self, time):
        return Two()


TIMES = np.array([0.0, 0.01, 0.05, 0.2])


@pytest.mark.many
@pytest.mark.parametrize("make", [ESDIRK3, ESDIRK4, ESDIRK5])
def test_the_error_follows_the_tolerance(make):
    """Of each step: all of them together are a few times more."""
    errors, counts = [], []
    for rtol in (1e-3, 1e-5):
        found = simulate_controlled(rod(), hot(), TIMES, make(), StepControl(rtol))
        range_of = float(np.ptp(hot()["u"]))
        errors.append(np.abs(found.states["u"] - decayed(TIMES)).max() / range_of / rtol)
        counts.append(found.time_grid.num_steps)
    assert max(errors) < 4
    assert counts[1] > counts[0]


def test_saved_times_are_ends_of_steps_and_steps_add_up():
    found = simulate_controlled(rod(), hot(), TIMES)
    grid = found.time_grid
    np.testing.assert_array_equal(grid.saved, TIMES)
    assert grid.saves_start
    ends = (grid.starts + grid.lengths)[grid.slots < len(TIMES)]
    np.testing.assert_allclose(ends, TIMES[1:], rtol=1e-14)
    np.testing.assert_allclose(grid.starts[1:], (grid.starts + grid.lengths)[:-1], rtol=1e-12)
    assert found.states["u"].shape == (4, CELLS)
    assert found.outcome.result.shape == (1, grid.num_steps)


@pytest.mark.thorough
def test_a_rollout_by_the_same_steps_gives_the_same_and_its_gradient_is_right():
    start = hot()
    found = simulate_controlled(rod(), start, TIMES, ESDIRK3(), StepControl(1e-3))

    def loss(parts: dict[str, jax.Array]) -> jax.Array:
        grid = ipd.Grid([ipd.Axis("x", 0.0, 1.0, CELLS)])
        terms = [ipd.Diffusion(ipd.latents.Closure(lambda u, k: k * (1 + u**2), k=parts["k"]))]
        system = ipd.System(grid, {"u": ipd.Field(terms, {"x": ipd.Dirichlet(0.0)})})
        states = ipd.simulate(system, {"u": parts["u"]}, found.time_grid, ESDIRK3()).states
        return jnp.sum(jnp.arange(CELLS) * states["u"][-1] ** 2)

    again = ipd.simulate(rod(), start, found.time_grid, ESDIRK3()).states["u"]
    # Its solves are to more digits.
    np.testing.assert_allclose(found.states["u"], again, atol=2e-5)
    rates = taylor_rates(loss, {"k": jnp.asarray(0.7), "u": start["u"]})
    assert all(rate >= 1.9 for rate in rates.values()), rates


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_an_offset_and_other_units_change_no_step(dtype):
    """Nor does when it begins: the year 2001, in seconds."""
    tolerance = StepControl(1e-3)
    plain = simulate_controlled(rod(), hot(0.0, dtype), TIMES, None, tolerance)
    warm = simulate_controlled(rod(290.0), hot(290.0, dtype), TIMES, None, tolerance)
    slow = simulate_controlled(rod(unit=1e6), hot(0.0, dtype), 1e6 * TIMES, None, tolerance)
    moments = 1e9 + 1e6 * TIMES
    later = simulate_controlled(rod(unit=1e6), hot(0.0, dtype), moments, None, tolerance)
    lengths = plain.time_grid.lengths
    near = 1e-6 if dtype == jnp.float64 else 0.15
    np.testing.assert_allclose(slow.time_grid.lengths, 1e6 * lengths, rtol=near)
    np.testing.assert_allclose(later.time_grid.lengths, 1e6 * lengths, rtol=near)
    if dtype == jnp.float64:
        np.testing.assert_allclose(warm.time_grid.lengths, lengths, rtol=near)
    else:
        # The round-off of 290 is a hundredth of the tolerance already.
        assert abs(warm.time_grid.num_steps - len(lengths)) <= 1
        np.testing.assert_allclose(warm.states["u"] - 290, plain.states["u"], atol=1e-3)


@pytest.mark.thorough
def test_storage_and_algebraic_fields_go_along():
    r"""$\frac{d}{dt} e^u = -e^u z$ with $z = 2$ has $u = u_0 - 2 t$; $q'$ grows or falls with u."""
    system = ipd.System(
        None,
        {
            "u": ipd.Field(
                [ipd.Reaction(lambda u, z: -z * jnp.exp(u))], storage=lambda u: jnp.exp(u)
            ),
            "z": ipd.Field([ipd.Reaction(lambda z: 2 - z)], storage=0),
        },
    )
    start = {"u": jnp.array(0.5), "z": jnp.array(2.0)}
    found = simulate_controlled(system, start, [0.0, 1.0, 3.0], None, StepControl(1e-6))
    np.testing.assert_allclose(found.states["u"], [0.5, -1.5, -5.5], atol=5e-5)
    np.testing.assert_allclose(found.states["z"], 2.0)


@pytest.mark.thorough
def test_steps_grow_over_many_decades():
    """Robertson's reaction to t = 1e11, against the values of the IVP test set."""
    system = ipd.System(
        None,
        {
            "a": [ipd.Reaction(lambda a, b, c: 1e4 * b * c - 0.04 * a)],
            "b": [ipd.Reaction(lambda a, b, c: 0.04 * a - 1e4 * b * c - 3e7 * b**2)],
            "c": [ipd.Reaction(lambda b: 3e7 * b**2)],
        },
    )
    start = {"a": jnp.array(1.0), "b": jnp.array(0.0), "c": jnp.array(0.0)}
    control = StepControl(1e-6, atol={"a": 1e-14, "b": 1e-18, "c": 1e-8})
    found = simulate_controlled(system, start, [1e11], start=0.0, control=control)
    published = {"a": 0.2083340149701255e-7, "b": 0.8333360770334713e-13, "c": 0.9999999791665050}
    for field, value in published.items():
        np.testing.assert_allclose(found.states[field][-1], value, rtol=1e-4)
    assert found.time_grid.num_steps < 600


@pytest.mark.thorough
def test_a_field_has_its_scale():
    """A thousandth of 100 is a tenth: seen from there this rod hardly changes."""
    errors = {}
    for scale in (100.0, 1.0):
        found = simulate_controlled(rod(scale=scale), hot(), TIMES, None, StepControl(1e-3))
        errors[scale] = np.abs(found.states["u"] - decayed(TIMES)).max()
        assert errors[scale] < 4e-3 * scale
    assert errors[100.0] > 10 * errors[1.0]


def test_no_step_is_longer_than_allowed():
    found = simulate_controlled(rod(), hot(), TIMES, None, StepControl(0.1, max_dt=0.004))
    assert found.time_grid.lengths.max() <= 0.004 * (1 + 1e-3)


def test_times_that_are_the_start_take_no_step():
    found = simulate_controlled(rod(), hot(), [0.5], start=0.5)
    assert found.time_grid.num_steps == 0
    np.testing.assert_array_equal(found.states["u"][0], hot()["u"])


@pytest.mark.thorough
def test_a_step_that_leaves_the_limits_is_taken_again():
    """It leads below zero: not in shorter steps."""
    equation = [ipd.Reaction(lambda u: -jnp.sqrt(jnp.maximum(u, 0.0)) * 50 * u)]
    system = ipd.System(None, {"u": ipd.Field(equation, bounds=(0.0, 1.0))})
    found = simulate_controlled(system, {"u": jnp.array(1.0)}, [0.0, 1.0], ESDIRK3())
    np.testing.assert_allclose(found.states["u"][-1], (1 + 25.0) ** -2, rtol=1e-2)


PAIRS = [BogackiShampine3(), Tsitouras5(), Tsitouras5(2)]


def swing(w: Any = 3.0) -> ipd.System:
    r"""$\ddot x = -w^2 x$, and its work $\int x v\,dt = (x^2 - 1) / 2$."""
    equations = {
        "x": [ipd.Reaction(lambda v: v)],
        "v": [ipd.Reaction(lambda x, w: -(w**2) * x)],
    }
    done = {"work": [ipd.Reaction(lambda x, v: x * v)]}
    return ipd.System(None, equations, coefficients={"w": w}, integrals=done)


@pytest.mark.many
@pytest.mark.parametrize("stepper", PAIRS, ids=["BS3", "T5", "T5 in parts"])
def test_explicit_pairs_follow_the_tolerance(stepper):
    start = {"x": jnp.array(1.0), "v": jnp.array(0.0), "work": jnp.array(0.0)}
    times, errors = np.linspace(0.0, 4.0, 5), []
    for rtol in (1e-3, 1e-6):
        found = simulate_controlled(swing(), start, times, stepper, StepControl(rtol))
        x = found.states["x"]
        errors.append(np.abs(x - np.cos(3 * times)).max() / rtol)
        np.testing.assert_allclose(found.states["work"], (x**2 - 1) / 2, atol=50 * rtol)
    assert max(errors) < 50


@pytest.mark.parametrize(
    "stepper", [PAIRS[0], pytest.param(PAIRS[1], marks=pytest.mark.thorough)], ids=["BS3", "T5"]
)
def test_the_steps_of_explicit_pairs_have_a_gradient(stepper):
    start = {"x": jnp.array(1.0), "v": jnp.array(0.0), "work": jnp.array(0.0)}
    found = simulate_controlled(swing(), start, [0.0, 1.0], stepper, StepControl(1e-2))

    def loss(parts: dict[str, Any]) -> jax.Array:
        states = ipd.simulate(swing(parts["w"]), parts["start"], found.time_grid, stepper).states
        return jnp.exp(states["x"][-1]) + states["work"][-1] ** 2

    rates = taylor_rates(loss, {"w": jnp.asarray(3.0), "start": start})
    assert all(rate >= 1.9 for rate in rates.values()), rates


@pytest.mark.parametrize("stepper", PAIRS, ids=["BS3", "T5", "T5 in parts"])
def test_explicit_steps_that_only_stability_limits_are_warned_of(stepper):
    """Heat in a rod: when its short waves have died, steps could be long."""
    with pytest.warns(RuntimeWarning, match="the system is stiff. Take an implicit method") as told:
        found = simulate_controlled(rod(), hot(), [0.0, 0.5], stepper, StepControl(1e-4))
    assert len(told) == 1
    late = np.median(found.time_grid.lengths[-10:])
    assert late == pytest.approx(stable_dt(rod(), hot(), stepper), rel=0.1)
    # What only stability limits is far more exact than asked.
    assert np.abs(found.states["u"][-1]).max() < 1e-2
    with pytest.raises(NumericsError, match="max_steps = 60.*stiff. Take an implicit method"):
        control = StepControl(1e-4, max_steps=60)
        simulate_controlled(rod(), hot(), [0.0, 5.0], stepper, control)


def test_of_explicit_steps_that_their_errors_limit_nothing_is_said(recwarn):
    """Neither of a wave nor of heat that is followed closely."""
    start = {"x": jnp.array(1.0), "v": jnp.array(0.0), "work": jnp.array(0.0)}
    simulate_controlled(swing(), start, [0.0, 20.0], Tsitouras5())
    tight = StepControl(1e-9)
    found = simulate_controlled(rod(), hot(), [0.0, 0.005], BogackiShampine3(), tight)
    assert found.time_grid.num_steps > 40
    assert not recwarn.list


def test_explicit_pairs_refuse_a_storage():
    with pytest.raises(InputError, match="an explicit step knows no way"):
        simulate_controlled(rod(storage=lambda u: u + u**3), hot(), TIMES, Tsitouras5())


class TestRefusals:
    def test_a_time_that_turns_out_to_be_rounded(self):
        """Fine for the whole span, and not for the steps that it takes."""
        driven = ipd.System(None, {"u": [ipd.Reaction(lambda u, t: 1e-9 * t - u)]})
        start = {"u": jnp.array(1.0, jnp.float32)}
        control = StepControl(0.1, max_dt=50.0)
        with pytest.raises(InputError, match="would see the time in single precision"):
            simulate_controlled(driven, start, [1e7, 1e7 + 2e4], ESDIRK3(), control)

    def test_what_grows_without_end_is_named(self):
        system = ipd.System(None, {"fire": [ipd.Reaction(lambda fire: fire**2)]})
        with pytest.raises(NumericsError, match=r"at t = 1\.0\d* |at t = 0\.9999") as caught:
            simulate_controlled(system, {"fire": jnp.array(1.0)}, [0.0, 2.0])
        assert "steps" in str(caught.value)

    def test_too_many_steps_say_which_field_asks_for_them(self):
        with pytest.raises(NumericsError, match=r"max_steps = 3 .* the error of 'u' at cell \d+"):
            simulate_controlled(rod(), hot(), TIMES, None, StepControl(1e-8, max_steps=3))

    def test_a_method_without_an_estimate(self):
        with pytest.raises(InputError, match="CrankNicolson|Theta has no estimate"):
            simulate_controlled(rod(), hot(), TIMES, ipd.CrankNicolson())

    @pytest.mark.parametrize(
        "given, said",
        [
            ({"rtol": 0.0}, "between 0 and 1"),
            ({"rtol": 1.0}, "between 0 and 1"),
            ({"rtol": "small"}, "must be one number"),
            ({"atol": 0.0}, "absolute tolerance is positive"),
            ({"atol": {"u": -1.0}}, "absolute tolerance is positive"),
            ({"max_dt": 0.0}, "longer than zero"),
            ({"max_steps": 0}, "at least one step"),
        ],
    )
    def test_tolerances_that_are_none(self, given: dict[str, Any], said: str):
        with runtime_types.without(), pytest.raises(InputError, match=said):
            StepControl(**given)

    def test_a_tolerance_below_round_off(self):
        with pytest.raises(InputError, match="below the round-off of float32"):
            simulate_controlled(rod(), hot(0.0, jnp.float32), TIMES, None, StepControl(1e-9))

    @pytest.mark.parametrize("times", [0.5, [0.5], []])
    def test_one_time_without_a_start(self, times: Any):
        """A state at 0.5 that is the initial state would be taken for an answer."""
        with runtime_types.without(), pytest.raises(InputError, match=r"say start=0\.0"):
            simulate_controlled(rod(), hot(), times)

    def test_a_tolerance_for_no_field(self):
        with pytest.raises(InputError, match=r"names 'v': an error is estimated in the fields 'u'"):
            simulate_controlled(rod(), hot(), TIMES, None, StepControl(atol={"v": 1.0}))

    def test_within_jit(self):
        with pytest.raises(InputError, match="found.time_grid"):
            jax.jit(lambda start: simulate_controlled(rod(), start, TIMES).states)(hot())


def test_equations_alone():
    """Where nothing is stored no step has an error, and each span is one."""
    found = simulate_controlled(Equation(), {"z": jnp.array(1.0)}, [0.0, 1.0, 3.0])
    assert found.time_grid.lengths.tolist() == [1.0, 2.0]
    np.testing.assert_allclose(found.states["z"], 2.0, rtol=1e-12)


def lit(length: float, **field: Any) -> ipd.System:
    """A decaying number with a source of 10 that is on for a while, from t = 5.01 on."""
    terms = [
        ipd.Source(lambda t: jnp.where((t > 5.01) & (t < 5.01 + length), 10.0, 0.0)),
        ipd.Reaction(lambda u: -u),
    ]
    return ipd.System(None, {"u": ipd.Field(terms, scale=1.0, **field)})


@pytest.mark.many
@pytest.mark.parametrize("make", [ESDIRK3, ESDIRK4, ESDIRK5])
@pytest.mark.parametrize("length", [0.3, 0.03])
@pytest.mark.thorough
def test_a_short_pulse_is_not_stepped_over(make, length: float):
    """At rest no error is estimated, and the first step would be the whole time."""
    control = StepControl(1e-5)
    found = simulate_controlled(
        lit(length), {"u": jnp.array(0.0)}, [0.0, 10.0], make(), control=control
    )
    exact = 10 * (1 - np.exp(-length)) * np.exp(-(10 - 5.01 - length))
    assert float(found.states["u"][-1]) == pytest.approx(exact, rel=1e-2)


@pytest.mark.thorough
def test_a_pulse_in_an_equation_without_storage_is_not_stepped_over():
    on = ipd.Source(lambda t: jnp.where((t > 5.01) & (t < 5.21), 1.0, 0.0))
    follows = ipd.Field([ipd.Reaction(lambda u, z: z - u)], scale=1.0)
    given = ipd.Field([on, ipd.Reaction(lambda z: -z)], storage=0)
    system = ipd.System(None, {"u": follows, "z": given})
    start = {"u": jnp.array(0.0), "z": jnp.array(0.0)}
    found = simulate_controlled(system, start, [0.0, 10.0], control=StepControl(1e-5))
    exact = (1 - np.exp(-0.2)) * np.exp(-(10 - 5.21))
    assert float(found.states["u"][-1]) == pytest.approx(exact, abs=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_pulse_of_a_field_that_was_never_anything(dtype):
    """Without a scale its first movement is compared with what it might have come to until then.

    The error of a step across a jump is estimated with luck, unless the jump is named.
    """
    terms = [ipd.Source(lambda t: jnp.where((t > 5.01) & (t < 5.04), 10.0, 0.0))]
    system, start = ipd.System(None, {"u": terms}), {"u": jnp.zeros((), dtype)}
    for control, rtol in (
        (StepControl(), 0.03),
        (StepControl(1e-6, atol=1e-6), 1e-3),
        (StepControl(breakpoints=[5.01, 5.04]), 1e-4),
    ):
        found = simulate_controlled(system, start, [0.0, 10.0], control=control)
        assert float(found.states["u"][-1]) == pytest.approx(0.3, rel=rtol)


@pytest.mark.many
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("includes", [True, False])
def test_no_step_is_refused_for_a_jump_that_is_named(dtype, includes: bool):
    """On which side the function has the moment itself does not matter; the start may be one."""

    def on(t):
        return 10.0 * ((t >= 5.01) & (t < 5.04) if includes else (t > 5.01) & (t <= 5.04))

    system = ipd.System(None, {"u": [ipd.Source(on), ipd.Reaction(lambda u: -u)]})
    start = {"u": jnp.ones((), dtype)}
    control = StepControl(breakpoints=[0.0, 5.01, 5.04, 10.0, 99.0])
    found = simulate_controlled(system, start, [0.0, 5.04, 10.0], control=control)
    exact = np.exp(-10) + 10 * (1 - np.exp(-0.03)) * np.exp(-4.96)
    assert found.num_refused == 0
    rtol = 1e-4 if dtype == jnp.float32 else 1e-6
    assert float(found.states["u"][-1]) == pytest.approx(exact, abs=rtol)
    again = ipd.simulate(system, start, found.time_grid, ESDIRK4()).states["u"]
    # Round-off decides on which side of the jump the end of the sliver is.
    sliver = 10.0 * 4 * float(jnp.finfo(dtype).eps) * 10.0
    np.testing.assert_allclose(again, found.states["u"], rtol=1e-5, atol=sliver)


@pytest.mark.thorough
def test_many_jumps_in_single_precision():
    r"""A pump that is on every other six hours: $2 (1 - e^{-3})$ after three time constants."""

    def pumped(t):
        return jnp.where(jnp.floor(t / 21600.0) % 2 > 0, 1.0, 0.0) / 3600

    terms = [ipd.Source(pumped), ipd.Reaction(lambda u: -u / 7200.0)]
    times = np.arange(73) * 3600.0
    control = StepControl(1e-5, breakpoints=times[6::6])
    start = {"u": jnp.zeros((), jnp.float32)}
    found = simulate_controlled(ipd.System(None, {"u": terms}), start, times, control=control)
    full = 2 * (1 - np.exp(-3))
    assert found.states["u"][12] == pytest.approx(full, rel=1e-4)
    assert found.states["u"][18] == pytest.approx(full * np.exp(-3), rel=1e-3)


def test_dates_may_be_breakpoints():
    dates = np.array(["2026-01-01T00:00", "2026-01-01T00:10"], "datetime64[ns]")
    assert StepControl(breakpoints=dates).breakpoints == (1767225600.0, 1767226200.0)
    assert StepControl(breakpoints=2).breakpoints == (2.0,)
    assert StepControl(breakpoints=np.array(2.0)).breakpoints == (2.0,)
    wrongs: list[Any] = [[np.nan], None, [[1.0, 2.0]]]
    for wrong in wrongs:
        with runtime_types.without(), pytest.raises(InputError, match="give finite times"):
            StepControl(breakpoints=wrong)


@pytest.mark.parametrize(
    "dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.thorough)]
)
def test_a_jump_at_a_date_is_seen_from_the_right_side(dtype):
    """Counted from 1970, as the function has it: a double knows such seconds to 2.4e-7 only."""
    start = np.datetime64("2024-03-01T00:00:00")
    jump = start + np.timedelta64(90, "m")
    second = float(jump.astype("datetime64[s]").astype(int))
    rate = ipd.Reaction(lambda u, t: jnp.where(t >= second, 1.0, 0.0) / 3600)
    system = ipd.System(None, {"u": [rate]})
    times = start + np.array([0, 1, 2, 48]) * np.timedelta64(1, "h")
    control = StepControl(1e-5, breakpoints=np.array([jump]))
    found = simulate_controlled(system, {"u": jnp.zeros((), dtype)}, times, control=control)
    assert found.num_refused == 0
    # In single precision, half a sliver is a tenth of a second of two days.
    sliver = 4 * float(jnp.finfo(dtype).eps) * 48.0
    np.testing.assert_allclose(found.states["u"], [0.0, 0.0, 0.5, 46.5], rtol=1e-6, atol=sliver)


@pytest.mark.many
@pytest.mark.parametrize("apart", [1e-16, 1e-15, 1e-14, 1e-13, 1e-12])
def test_jumps_closer_together_than_the_clock_can_tell(apart: float):
    """To one another, and to a time that is saved, on either side."""
    jumps = [0.3, 0.3 + apart, 0.5 - apart, 0.5 + apart, apart, 1 - apart]
    system = ipd.System(
        None, {"u": [ipd.Source(lambda t: jnp.where((t > 0.3) & (t < 0.5), 1.0, 0.0))]}
    )
    control = StepControl(1e-6, breakpoints=jumps)
    found = simulate_controlled(system, {"u": jnp.array(0.0)}, [0.0, 0.5, 1.0], control=control)
    np.testing.assert_allclose(found.states["u"], [0.0, 0.2, 0.2], atol=1e-9)


def test_a_storage_that_has_no_value_beyond_what_is_reached():
    r"""$\frac{d}{dt}(-\ln(1 - u)) = 1$: nearer to 1 than the error that is allowed."""
    field = ipd.Field([ipd.Source(1.0)], storage=lambda u: -jnp.log1p(-u))
    found = simulate_controlled(
        ipd.System(None, {"u": field}), {"u": jnp.array(0.0)}, [20.0], start=0.0
    )
    assert 1 - float(found.states["u"][-1]) == pytest.approx(np.exp(-20), rel=1e-4)


@pytest.mark.thorough
def test_solid_cells_have_no_part_in_what_error_is_allowed():
    """Neither by what stands in them nor by how many they are."""
    steps = []
    for junk, many in ((0.0, 24), (1e9, 24), (0.0, 240)):
        axis = ipd.Axis("x", 0.0, many / 12, 2 * many)
        solid = np.arange(2 * many) >= 24
        grid = ipd.Grid([axis], solid=solid)
        ends = {"x": ipd.Dirichlet(0.0)}
        system = ipd.System(grid, {"u": ipd.Field([ipd.Diffusion(1.0)], ends)})
        x = grid.centres()[0]
        start = {"u": jnp.asarray(np.where(solid, junk, np.sin(np.pi * x / 2)))}
        found = simulate_controlled(system, start, [0.0, 0.1, 0.5])
        steps.append(found.time_grid.lengths)
    np.testing.assert_allclose(steps[1], steps[0], rtol=1e-6)
    np.testing.assert_allclose(steps[2], steps[0], rtol=1e-6)


class Decays(AbstractDynamics):
    rate: Any

    def at(self, time):
        return self


def test_a_failure_names_the_field_that_it_is_about():
    """Not the sample of its number: the last of a chain moves as the time to the fourth."""
    chain = {"b": lambda a: a, "c": lambda b: b, "d": lambda c: c, "e": lambda d: d}
    system = ipd.System(
        None,
        {"a": [ipd.Reaction(lambda a: -a)]} | {f: [ipd.Reaction(k)] for f, k in chain.items()},
    )
    start = {"a": jnp.array(1.0)} | dict.fromkeys(chain, jnp.array(0.0))
    with pytest.raises(NumericsError, match=r"error of 'e' \(sample 0\)"):
        simulate_controlled(system, start, [0.0, 1.0], control=StepControl(1e-6))


class TestASystemThatWasLookedAt:
    """Looked at once, as long as nothing else is asked of it."""

    @staticmethod
    def run(system, start=0.5, stepper=None, until=0.1):
        initial = {"u": jnp.array(start)}
        return simulate_controlled(system, initial, [0.0, until], stepper, StepControl(1e-4, 1e-4))

    @staticmethod
    def decay(rate=1.0, **field):
        terms = [ipd.Reaction(lambda u, rate: -rate * u)]
        return ipd.System(None, {"u": ipd.Field(terms, **field)}, coefficients={"rate": rate})

    def test_it_is_prepared_once(self, monkeypatch):
        counted, prepare = [], ipd.System.prepare_shared
        system = self.decay()
        self.run(system)
        monkeypatch.setattr(
            ipd.System, "prepare_shared", lambda *args: counted.append(1) or prepare(*args)
        )
        self.run(system)
        self.run(system, 0.6)
        assert not counted
        self.run(system, until=0.2)
        assert counted

    def test_its_start_is_looked_at_each_time(self):
        system = self.decay(bounds=(0.0, 1.0))
        self.run(system)
        with pytest.raises(InputError, match="is 2"):
            self.run(system, 2.0)

    def test_so_is_another_stepper(self):
        system = self.decay()
        self.run(system)
        with pytest.raises(InputError, match="affine"):
            self.run(system, stepper=ESDIRK4(ipd.solvers.Affine()))

    def test_so_is_what_may_have_changed(self):
        looked_at, system = [], Decays(np.array(1.0))
        for rate in (1.0, 4.0):
            system.rate[...] = rate
            remember(system, "all", lambda rate=rate: looked_at.append(rate))
        assert looked_at == [1.0, 4.0]

    def test_nothing_is_held_of_a_system_that_is_gone(self):
        system = self.decay()
        self.run(system)
        gone = weakref.ref(system)
        del system
        gc.collect()
        assert gone() is None


@pytest.mark.parametrize(
    "make, said",
    [
        (ESDIRK4, "the equation contains NaN or infinity"),
        (Tsitouras5, r"lead to NaN or infinity in 'u' at cell 0 .*system.check"),
    ],
)
def test_an_equation_that_is_not_finite_is_not_blamed_on_the_start(make, said: str):
    """The first stage fails for the equation, and those after it begin from what it left."""
    field = ipd.Field([ipd.Diffusion(1.0), ipd.Source(lambda x: jnp.log(x - 0.4))])
    axis = ipd.Axis("x", 0.0, 1.0, 3, periodic=True)
    system, start = ipd.System(ipd.Grid([axis]), {"u": field}), {"u": jnp.ones(3)}
    with pytest.raises(NumericsError, match=said):
        simulate_controlled(system, start, [0.0, 1.0], make())
