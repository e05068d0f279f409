"""A rollout is its steps one by one: what it saves, what it evaluates, and what it reports."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from smooth import box, wave, winds

from impindiff._errors import InputError, NumericsError
from impindiff._types import Scalar
from impindiff.grid import Grid
from impindiff.implicit import Affine
from impindiff.integrate import SDIRK2, BackwardEuler, CrankNicolson, ForwardEuler, RungeKutta4
from impindiff.latent import AbstractLatent
from impindiff.linear import BiCGStab
from impindiff.rollout import (
    KeepAll,
    Snapshots,
    StepOutcome,
    StepResult,
    TimeGrid,
    Trajectory,
    simulate,
)
from impindiff.systems import System, advection_diffusion
from impindiff.terms import Diffusion, Source

GRID = box(6, 5)
TIGHT = Affine(BiCGStab(1e-12), BiCGStab(1e-12))
TIMES = TimeGrid.build(0.0, np.array([0.0, 0.05, 0.11]), 0.02)


def system() -> System:
    return advection_diffusion(GRID, winds(GRID), 0.01)


def initial(shift: float = 0.0) -> dict[str, Any]:
    return {"concentration": wave(GRID, shift)}


@pytest.mark.thorough
@pytest.mark.parametrize("stepper", [ForwardEuler(), CrankNicolson(TIGHT)], ids=["Euler", "CN"])
def test_the_states_saved_are_those_of_the_steps(stepper):
    trajectory = simulate(system(), initial(), TIMES, stepper)
    dynamics = system().prepare(jnp.dtype("float64"))
    state, expected = initial(), [wave(GRID)]
    for start, length, slot in zip(TIMES.starts, TIMES.lengths, TIMES.slots, strict=True):
        state, _ = stepper.step(dynamics, jnp.asarray(start), jnp.asarray(length), state)
        if slot < 3:
            expected.append(state["concentration"])
    found = trajectory.states["concentration"]
    assert found.shape == (3, *GRID.shape)
    np.testing.assert_array_equal(found[0], wave(GRID))
    np.testing.assert_allclose(found, jnp.stack(expected), rtol=1e-9)
    assert trajectory.outcome.result.shape == (TIMES.num_steps,)
    trajectory.check(TIMES)


@pytest.mark.thorough
def test_the_start_is_saved_only_where_it_is_asked_for():
    without = TimeGrid.build(0.0, TIMES.saved[1:], 0.02)
    found = simulate(system(), initial(), without, CrankNicolson(TIGHT)).states["concentration"]
    whole = simulate(system(), initial(), TIMES, CrankNicolson(TIGHT)).states["concentration"]
    np.testing.assert_array_equal(found, whole[1:])


def test_no_step_at_all():
    here = TimeGrid.build(0.3, np.array([0.3]), 0.02)
    trajectory = simulate(system(), initial(), here, CrankNicolson())
    np.testing.assert_array_equal(trajectory.states["concentration"], wave(GRID)[None])
    assert trajectory.outcome.result.shape == (0,)
    trajectory.check(here)


@pytest.mark.thorough
def test_a_batch_is_its_samples_one_by_one():
    def run(initial):
        return simulate(system(), initial, TIMES, CrankNicolson(TIGHT))

    several = {"concentration": jnp.stack([wave(GRID), 5 * wave(GRID, 1.0), 0 * wave(GRID)])}
    batch = jax.jit(jax.vmap(run))(several)
    assert batch.outcome.result.shape == (3, TIMES.num_steps)
    batch.check(TIMES)
    alone = jax.jit(run)
    for sample in range(3):
        one = alone(jax.tree.map(lambda u, s=sample: u[s], several))
        found = batch.states["concentration"][sample]
        np.testing.assert_allclose(found, one.states["concentration"], rtol=1e-9, atol=1e-15)
        assert batch.outcome.iterations[sample].tolist() == one.outcome.iterations.tolist()
    np.testing.assert_array_equal(batch.states["concentration"][2], np.zeros((3, *GRID.shape)))


class Watched(AbstractLatent):
    """A diffusivity that notes the times at which its value is computed, not only traced."""

    log: list = eqx.field(static=True)
    steady: bool = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True, default=("diffusivity",))

    @property
    def is_steady(self) -> bool:
        return self.steady

    @property
    def lower_bound(self) -> float:
        """Else it is looked at once more, where a step ends."""
        return 0.1

    def evaluate(self, grid: Grid, time: Scalar | None = None) -> Any:
        time = jnp.asarray(-1.0 if time is None else time)
        jax.debug.callback(lambda t: self.log.append(float(t)), time)
        return 0.1 + 0 * time

    @classmethod
    def in_rollout(cls, steady: bool, stepper) -> list[float]:
        log: list[float] = []
        watched = System(GRID, {"c": [Diffusion(cls(log=log, steady=steady))]})
        samples = {"c": jnp.stack([wave(GRID)] * 2)}

        @jax.jit
        @jax.vmap
        def run(sample):
            return simulate(watched, sample, TIMES, stepper).states

        jax.block_until_ready(run(samples))
        jax.effects_barrier()
        return sorted(log)


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize(
    "stepper", [ForwardEuler(), RungeKutta4(), BackwardEuler(), CrankNicolson()], ids=str
)
def test_steady_latents_are_evaluated_once_for_all_steps_and_samples(stepper):
    assert Watched.in_rollout(True, stepper) == [-1.0]


@pytest.mark.thorough
def test_other_latents_are_evaluated_at_the_times_of_the_scheme():
    ends = [*TIMES.starts, TIMES.saved[-1]]
    middles = TIMES.starts + TIMES.lengths / 2
    expected = [
        (ForwardEuler(), ends[:-1]),
        (BackwardEuler(), ends[1:]),
        (CrankNicolson(), sorted([*ends[:-1], *ends[1:]])),
        (SDIRK2(), sorted([*(TIMES.starts + (1 - 0.5**0.5) * TIMES.lengths), *ends[1:]])),
        # Its stages are a loop, two of them at the middle.
        (RungeKutta4(), sorted([*ends[:-1], *middles, *middles, *ends[1:]])),
    ]
    for stepper, times in expected:
        assert Watched.in_rollout(False, stepper) == pytest.approx(times)


class TestCheck:
    """Outcomes become errors where the program meets its user."""

    times = TimeGrid.build(0.0, np.array([0.3]), 0.1)

    def trajectory(self, results) -> Trajectory:
        results = jnp.asarray(results)
        return Trajectory(
            {}, StepOutcome(results, 7 + 0 * results, 0.123 * results, 1 + 0 * results)
        )

    def test_good_steps_pass(self):
        self.trajectory([StepResult.CONVERGED, StepResult.ROUND_OFF, StepResult.CONVERGED]).check(
            self.times
        )

    def test_the_message_names_step_time_and_residual(self):
        with pytest.raises(NumericsError) as caught:
            self.trajectory(
                [StepResult.CONVERGED, StepResult.MAX_STEPS, StepResult.NOT_FINITE]
            ).check(self.times)
        for part in ("step 2 of 3 (to t = 0.2)", "sample 0", "'max steps' after 7", "0.25"):
            assert part in str(caught.value)
        assert "2 of 3 solves failed" in str(caught.value)
        assert "shorten the step" in str(caught.value) and "raise max_steps" in str(caught.value)

    def test_of_a_batch_it_names_the_sample_of_the_first_failure(self):
        results = np.zeros((3, 3), int)
        results[0, 2] = results[2, 1] = StepResult.STALLED
        with pytest.raises(NumericsError, match=r"step 2 of 3 .* sample 2: .*'stalled'"):
            self.trajectory(results).check(self.times)
        nested = results[None].repeat(2, axis=0)
        nested[0] = 0
        with pytest.raises(NumericsError, match="step 2 of 3 .* sample 5.*2 of 18 solves"):
            self.trajectory(nested).check(self.times)

    def test_a_start_that_is_not_finite_is_refused_with_its_field_and_cell(self):
        start = {"concentration": wave(GRID).at[2, 3].set(jnp.nan)}
        with pytest.raises(InputError, match=r"'concentration' is nan at the start in cell \(2, 3"):
            simulate(system(), start, TIMES, CrankNicolson())

    @pytest.mark.thorough
    def test_under_jit_it_is_found_in_its_first_step(self):
        start = {"concentration": wave(GRID).at[2, 3].set(jnp.nan)}
        run = jax.jit(lambda u: simulate(system(), u, TIMES, CrankNicolson(), on_failure="keep"))
        with pytest.raises(NumericsError, match="step 1 of .*'guess not finite'"):
            run(start).check(TIMES)

    def test_a_coefficient_that_is_not_finite_does_not_pass_for_standing_still(self):
        wind = winds(GRID).at[0, 2, 3].set(jnp.nan)
        blown = advection_diffusion(GRID, wind, 0.01)
        trajectory = simulate(blown, initial(), TIMES, CrankNicolson(), on_failure="keep")
        assert np.isnan(trajectory.states["concentration"][-1]).all()
        with pytest.raises(NumericsError, match="step 1 of .*'not finite'"):
            trajectory.check(TIMES)


@pytest.mark.thorough
def test_fields_of_two_kinds_go_side_by_side():
    """Uncoupled, they are what each is alone."""
    both = System(
        GRID, {"b": [Diffusion(0.1)], "a": [Source(2.0)], "c": [Diffusion(0.0), Source(wave(GRID))]}
    )
    start = {"a": wave(GRID), "b": wave(GRID, 1.0), "c": wave(GRID, 2.0)}
    found = simulate(both, start, TIMES, CrankNicolson(TIGHT)).states
    np.testing.assert_allclose(found["a"][-1], wave(GRID) + 2.0 * 0.11, rtol=1e-12)
    np.testing.assert_allclose(found["c"][-1], wave(GRID, 2.0) + wave(GRID) * 0.11, rtol=1e-10)
    alone = System(GRID, {"b": [Diffusion(0.1)]})
    expected = simulate(alone, {"b": wave(GRID, 1.0)}, TIMES, CrankNicolson(TIGHT)).states["b"]
    np.testing.assert_allclose(found["b"], expected, rtol=1e-9)


@pytest.mark.parametrize(
    "state, said",
    [
        ({}, "at least one"),
        ({"concentration": jnp.ones((3, *GRID.shape))}, "jax.vmap"),
        ({"concentration": jnp.ones(GRID.shape[::-1])}, "one value for each cell"),
        ({"concentration": jnp.ones(())}, "one value for each cell"),
        ({"c": jnp.ones(GRID.shape)}, "every field|each field"),
        ({"concentration": jnp.ones(GRID.shape), "c": jnp.ones(GRID.shape)}, "and no other"),
        (
            {"concentration": jnp.ones(GRID.shape), "c": jnp.ones(GRID.shape, jnp.float32)},
            "of one precision",
        ),
    ],
)
@pytest.mark.parametrize("stepper", [ForwardEuler(), CrankNicolson()], ids=["Euler", "CN"])
def test_initial_fields_that_do_not_fit_are_refused(stepper, state, said: str):
    """A batch would not fail by itself: its samples would be taken for neighbours."""
    with runtime_types.without(), pytest.raises(InputError, match=said):
        simulate(system(), state, TIMES, stepper)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"initial": [1.0]}, "initial state is list: give each field by its name"),
        ({"time_grid": [0.1]}, r"cut the time into steps, TimeGrid\.build"),
        ({"stepper": BackwardEuler}, r"BackwardEuler, not called: give one as BackwardEuler\(\)"),
        ({"stepper": CrankNicolson}, r"give one as CrankNicolson\(\)"),
    ],
)
def test_arguments_of_another_kind_are_refused(changes: dict[str, Any], said: str):
    given: dict[str, Any] = {"initial": {"concentration": jnp.ones(GRID.shape)}}
    given |= {"time_grid": TIMES, "stepper": ForwardEuler(), **changes}
    with runtime_types.without(), pytest.raises(InputError, match=said):
        simulate(system(), **given)


def test_fields_may_be_numpy_arrays_in_either_precision():
    for dtype in (np.float32, np.float64):
        start: Any = {"concentration": np.asarray(wave(GRID), dtype)}
        with runtime_types.without():
            found = jax.eval_shape(lambda s=start: simulate(system(), s, TIMES, CrankNicolson()))
        assert found.states["concentration"].dtype == dtype


@pytest.mark.parametrize("dt", [np.timedelta64(1, "s"), None, "1", 1j, np.nan, [1.0]])
def test_a_step_that_is_no_number_is_refused(dt: Any):
    with (
        runtime_types.without(),
        pytest.raises(InputError, match="the time step is .*: it must be a number"),
    ):
        TimeGrid.build(0.0, [1.0], dt)


def test_times_in_a_table_are_refused():
    with runtime_types.without(), pytest.raises(InputError, match=r"have the shape \(1, 2\)"):
        TimeGrid.build(0.0, np.array([[1.0, 2.0]]), 0.5)


@pytest.mark.parametrize(
    "state, said",
    [
        ({"c": np.ones(4), "d": np.ones(4)}, "the state has the fields"),
        ({"d": np.ones(4)}, "the state has the fields"),
        ({"c": None}, "the field 'c' is None: it must be an array"),
        ({"c": "warm"}, "the field 'c' is 'warm': it must be an array"),
    ],
)
def test_a_state_that_is_none_of_the_system_is_refused(state: Any, said: str):
    grid = Grid.uniform((4,), ((0.0, 1.0),), periodic=True)
    system = System(grid, {"c": [Diffusion(1.0)]})
    times = TimeGrid.build(0.0, [1.0], 0.5)
    with pytest.raises(InputError, match=said):
        simulate(system, state, times, BackwardEuler())


@pytest.mark.parametrize("make", [BackwardEuler, SDIRK2, CrankNicolson])
@pytest.mark.parametrize(
    "given, said",
    [
        ({"solver": BiCGStab()}, r"BiCGStab, which solves linear systems: .* Affine\(BiCGStab"),
        ({"solver": Affine}, "give one such as Newton"),
        ({"solver": "newton"}, "the stepper's solver is 'newton'"),
        ({"preconditioner": "multigrid"}, "the stepper's preconditioner is 'multigrid'"),
    ],
)
def test_a_solver_that_is_none_is_refused(make: Any, given: dict[str, Any], said: str):
    with runtime_types.without(), pytest.raises(InputError, match=said):
        make(**given)


@pytest.mark.thorough
@pytest.mark.parametrize("memory", [KeepAll(), Snapshots(2)])
def test_a_rollout_in_parts_is_the_undivided_one_to_the_last_digit(memory):
    """With what rounding has left out handed on, `Trajectory.lost`."""
    grid = Grid.uniform((8,), ((0.0, 1.0),))
    warming = System(grid, {"T": [Source(lambda x: 1e-3 * (1 + x))]})
    start = {"T": jnp.full(8, 290.0)}
    stepper = CrankNicolson()
    times = TimeGrid.build(0.0, [1.0], 0.01)
    whole = simulate(warming, start, times, stepper).states["T"][-1]
    state, lost = start, None
    for part in range(25):
        times = TimeGrid.build(0.04 * part, [0.04 * (part + 1)], 0.01)
        given = warming, state, times, stepper
        found = simulate(*given, memory=memory, lost=lost)
        state, lost = {"T": found.states["T"][-1]}, found.lost
    np.testing.assert_array_equal(state["T"], whole)
    assert jnp.all(whole > 290)
