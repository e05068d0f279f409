"""Levenberg-Marquardt on problems whose answers are known, and on a diffusion from few sensors."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from plain_objective import Plain
from small_problem import DIFFUSIVITY, DT, make_dataset, make_system

import impindiff as ipd
from impindiff import InputError, LevenbergMarquardt
from impindiff.latent import learned
from impindiff.linear import AdjointOutcome, Outcome
from impindiff.rollout import StepOutcome
from impindiff.train import (
    AbstractObjective,
    Evaluation,
    Observations,
    Stage,
    StageLength,
    make_objective,
    whole,
)
from impindiff.train._least_squares import (
    LinearMaps,
    column_norms,
    damped_step,
    fold,
    krylov_step,
    linearised,
)

SOLVED = StepOutcome.of_solve(Outcome.exact())

FIELD = "concentration"
MATRIX = np.random.default_rng(0).normal(size=(7, 3)) * [1.0, 1e3, 1e-3]
RIGHT = np.random.default_rng(1).normal(size=7)


class Squares(AbstractObjective):
    """The sum of squares of a function of one array."""

    residuals: Callable

    def __call__(self, point) -> Evaluation:
        loss, gradient = jax.value_and_grad(lambda x: jnp.sum(self.residuals(x) ** 2))(point)
        return Evaluation(loss, gradient, SOLVED, AdjointOutcome.probe())

    def value(self, point) -> tuple[jax.Array, StepOutcome]:
        return jnp.sum(self.residuals(point) ** 2), SOLVED

    def triangle(self, point) -> jax.Array:
        empty = jnp.zeros((point.size + 1,) * 2, point.dtype)
        return fold(empty, linearised(self.residuals, point))

    def linear_maps(self, point) -> LinearMaps:
        residuals, push = jax.linearize(self.residuals, point)
        pull = jax.linear_transpose(push, point)
        return LinearMaps(residuals, push, lambda vector: pull(vector)[0])


def run(stage: Stage, residuals: Callable, start):
    objective, optimiser, length = Squares(residuals), stage.optimiser, StageLength(stage.epochs)
    update = jax.jit(lambda learned, state: optimiser.update(objective, learned, state, length))
    point, state, losses = start, optimiser.init(objective, start), []
    for _ in range(stage.epochs):
        point, state, epoch = update(point, state)
        if epoch.stalled:
            return point, losses, True
        losses.append(float(epoch.evaluation.loss))
    return point, losses, False


def linear(x):
    return jnp.asarray(MATRIX, x.dtype) @ x - jnp.asarray(RIGHT, x.dtype)


def rosenbrock(x):
    return jnp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


@pytest.mark.parametrize("dtype, rtol", [(jnp.float64, 1e-9), (jnp.float32, 1e-3)])
def test_linear_least_squares_take_one_step(dtype, rtol: float):
    """Columns of very different length, and in single precision too."""
    expected = np.linalg.lstsq(MATRIX, RIGHT)[0]
    found, losses, _ = run(Stage(LevenbergMarquardt(damping=1e-12), 1), linear, jnp.zeros(3, dtype))
    np.testing.assert_allclose(found, expected, rtol=rtol)
    _, losses, stalled = run(Stage(LevenbergMarquardt(), 9), linear, jnp.zeros(3, dtype))
    assert stalled and np.all(np.diff(losses) < 0)


def test_rosenbrocks_valley():
    found, losses, _ = run(Stage(LevenbergMarquardt(), 30), rosenbrock, jnp.array([-1.2, 1.0]))
    np.testing.assert_allclose(found, 1, atol=1e-8)
    assert np.all(np.diff(losses) < 0) and len(losses) < 25 and losses[-1] < 1e-12


@pytest.mark.many
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("units", [(1e-6, 1e6), (1e6, 1e-6), (1e-24, 1e12)])
def test_units_of_the_unknowns_change_no_step(units, dtype):
    """As many iterations as in the units in which the valley was written, to the same losses."""
    units, start = jnp.asarray(units, dtype), jnp.array([-1.2, 1.0], dtype)
    plain, losses, _ = run(Stage(LevenbergMarquardt(), 14), rosenbrock, start)
    found, scaled, _ = run(
        Stage(LevenbergMarquardt(), 14), lambda x: rosenbrock(x * units), start / units
    )
    digits = 1e-7 if dtype == jnp.float64 else 1e-3
    assert len(scaled) == len(losses)
    np.testing.assert_allclose(found * units, plain, rtol=digits)
    np.testing.assert_allclose(scaled[:8], losses[:8], rtol=100 * digits)


def test_the_scale_of_an_unknown_is_the_largest_so_far():
    """What the residuals cease to depend on keeps a scale, and does not run away."""
    steep = Squares(lambda x: jnp.array([3.0, 4.0]) * x[0] + 1e-30 * x[1])
    norms = column_norms(steep.triangle(jnp.ones(2)), jnp.array([2.0, 0.0]))
    np.testing.assert_allclose(norms, [5, 2**0.5 * 1e-30], rtol=1e-12)
    norms = column_norms(steep.triangle(jnp.ones(2)), jnp.array([7.0, 0.0]))
    assert float(norms[0]) == 7


def test_a_point_without_derivatives_is_not_arrived_at():
    """The first step would end where the loss is lower and the derivative infinite."""

    @jax.custom_jvp
    def kinked(x):
        return x - 1

    def derivative(primals, tangents):
        (x,), (slope,) = primals, tangents
        return x - 1, jnp.where(jnp.all(jnp.abs(x - 1) < 0.1), jnp.nan, 1.0) * slope

    kinked.defjvp(derivative)

    point, losses, _ = run(Stage(LevenbergMarquardt(), 1), kinked, jnp.array([3.0, 3.0]))
    assert 1.1 <= float(point[0]) < 3 and losses[0] < 8


@pytest.mark.parametrize("damping", [1e-9, 0.3, 1e3])
def test_a_damped_step_solves_the_damped_normal_equations(damping: float):
    triangle = Squares(linear).triangle(jnp.ones(3))
    residual = MATRIX @ np.ones(3) - RIGHT
    normal = MATRIX.T @ MATRIX
    expected = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -MATRIX.T @ residual)
    scale = column_norms(triangle, jnp.zeros(3))
    step, promised = damped_step(triangle, scale, jnp.asarray(damping))
    np.testing.assert_allclose(step, expected, rtol=1e-7)
    left = MATRIX @ expected + residual
    assert float(promised) == pytest.approx(residual @ residual - left @ left, rel=1e-7)


def test_it_stalls_at_a_minimum_and_leaves_an_unknown_alone_that_nothing_depends_on():
    def residuals(x):
        return jnp.stack([x[0] - 2, 3.0 + 0 * x[1]])

    found, losses, stalled = run(Stage(LevenbergMarquardt(), 9), residuals, jnp.array([5.0, 7.0]))
    assert stalled and len(losses) < 8
    np.testing.assert_allclose(found, [2.0, 7.0], atol=1e-6)


def first_epoch(objective: AbstractObjective, start):
    optimiser = LevenbergMarquardt()
    update = jax.jit(
        lambda learned, state: optimiser.update(objective, learned, state, StageLength(1))
    )
    return update(start, optimiser.init(objective, start))


@pytest.mark.parametrize(
    "residuals, has_loss", [(lambda x: x / 0, False), (lambda x: jnp.sqrt(jnp.abs(x - 2)), True)]
)
def test_a_start_whose_loss_or_derivative_is_no_number_is_told_and_not_left(residuals, has_loss):
    start = jnp.array([2.0, 3.0])
    point, _, epoch = first_epoch(Squares(residuals), start)
    np.testing.assert_array_equal(point, start)
    assert not bool(epoch.evaluation.is_finite)
    assert bool(jnp.isfinite(epoch.evaluation.loss)) == has_loss


def test_the_gradient_is_that_of_the_point_it_arrives_at():
    point, _, epoch = first_epoch(Squares(rosenbrock), jnp.array([-1.2, 1.0]))
    expected = Squares(rosenbrock)(point)
    assert float(epoch.evaluation.loss) == pytest.approx(float(expected.loss))
    np.testing.assert_allclose(epoch.evaluation.gradient, expected.gradient, rtol=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("count", [5, 64, 100])
def test_derivatives_are_those_by_reverse_mode_in_however_many_chunks(count: int):
    matrix = jnp.asarray(np.random.default_rng(2).normal(size=(7, count)))

    def residuals(x):
        return jnp.tanh(matrix @ x)

    at = jnp.linspace(-0.1, 0.1, count)
    found = linearised(residuals, at)
    expected = jnp.column_stack([jax.jacrev(residuals)(at), residuals(at)])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def objective_of(samples_at_once: int | None = None):
    """A whole training loss, with penalties, on a handful of cells."""
    data = make_dataset((12,))
    grid = ipd.grid_of(data, FIELD)
    system = make_system(grid)
    penalties = [
        ipd.observations.Smoothness("advection_x", 1e-2),
        ipd.observations.TotalVariation("advection_x", 1e-2),
    ]
    wells = ipd.Sensors(FIELD, "wells", positions=[[-0.5], [0.4]])
    data = data.merge(ipd.observations.measure(data, grid, [wells]))
    observations = Observations.of(system, data, "0:3", [0.1, 0.2], np.float64, [wells], penalties)
    arrays, frozen = eqx.partition(system, learned(system))
    tight = ipd.solvers.Affine(ipd.solvers.BiCGStab(1e-12), ipd.solvers.BiCGStab(1e-12))
    batch = whole(observations, DT)
    stepper = ipd.CrankNicolson(tight)
    return make_objective(frozen, batch, stepper, samples_at_once=samples_at_once), arrays


@pytest.mark.thorough
def test_the_triangle_of_a_training_loss_has_its_value_and_gradient():
    """Forward mode through the rollout against reverse mode, one of the two in parts."""
    objective, arrays = objective_of()
    in_parts, _ = objective_of(samples_at_once=2)
    evaluation, triangle = jax.jit(lambda a: (objective(a), in_parts.triangle(a)))(arrays)
    gradient = ravel_pytree(evaluation.gradient)[0]
    jacobian, residual = triangle[:, :-1], triangle[:, -1]
    assert float(jnp.vdot(residual, residual)) == pytest.approx(float(evaluation.loss))
    found = 2 * jacobian.T @ residual
    np.testing.assert_allclose(found, gradient, atol=1e-5 * float(jnp.abs(gradient).max()))


@pytest.fixture(scope="module")
def wells():
    data = make_dataset((12,))
    grid = ipd.grid_of(data, FIELD)
    sensors = ipd.Sensors(FIELD, "wells", noise=1e-3, positions=[[-0.62], [0.1], [0.7]])
    return data.merge(ipd.observations.measure(data, grid, [sensors])), sensors


@pytest.mark.slow
def test_a_diffusivity_from_few_sensors_in_a_few_epochs(wells):
    data, sensors = wells
    grid = ipd.grid_of(data, FIELD)
    velocity = jnp.asarray(data["advection_x"].values)[None]
    records = []
    found = ipd.fit(
        ipd.advection_diffusion(grid, velocity, ipd.Parameter("k", 0.07, (0.0, 0.1))),
        data,
        samples="0:2",
        dt=DT,
        observe=[sensors],
        stages=[Stage(LevenbergMarquardt(), 9)],
        options=ipd.FitOptions(watch=records.append),
    )
    assert float(found.latents()["k"].mean()) == pytest.approx(DIFFUSIVITY, rel=1e-3)
    losses = [record.loss for record in records]
    assert len(losses) <= 9 and np.all(np.diff(losses) < 0)
    assert records[0].stage == "levenberg-marquardt" and 0 < records[0].learning_rate <= 1


def test_no_sum_of_squares_and_counts_that_do_nothing_are_refused():
    with pytest.raises(InputError, match="needs a sum of squares"):
        first_epoch(Plain(lambda x: jnp.sum(linear(x) ** 2)), jnp.zeros(3))
    with pytest.raises(InputError, match="damping must be positive"):
        LevenbergMarquardt(damping=0.0)
    with pytest.raises(InputError, match="max_products of .* is 0: .* at least 1"):
        LevenbergMarquardt(max_products=0)


def many(count: int, seed: int = 3):
    """A curved problem in many unknowns of very different units, and its dense derivative."""
    random = np.random.default_rng(seed)
    units = 10.0 ** random.uniform(-3, 3, count)
    matrix = np.eye(count + 40, count) + 0.3 * random.normal(size=(count + 40, count)) / count**0.5
    right = random.normal(size=count + 40)

    def residuals(x):
        seen = jnp.asarray(matrix, x.dtype) @ (jnp.asarray(units, x.dtype) * x)
        return seen + 0.05 * jnp.sin(seen) - jnp.asarray(right, x.dtype)

    return residuals, units


@pytest.mark.thorough
def test_products_find_the_step_of_the_normal_equations():
    residuals, units = many(40)
    at = jnp.asarray(1 / units)
    jacobian, value = jax.jacfwd(residuals)(at), residuals(at)
    scale = np.linalg.norm(jacobian, axis=0)
    matrix = jacobian.T @ jacobian + 0.3 * np.diag(scale**2)
    expected = np.linalg.solve(matrix, -jacobian.T @ value)
    maps = Squares(residuals).linear_maps(at)
    found = krylov_step(maps, jnp.asarray(scale), jnp.asarray(0.3), 100)
    np.testing.assert_allclose(found.step * scale, expected * scale, atol=0.05)
    left = jacobian @ found.step + value
    expected = float(value @ value - left @ left)
    assert float(found.promised) == pytest.approx(expected, rel=1e-3)
    estimated = maps.column_norms(jnp.zeros(40))
    assert np.all((estimated / scale > 0.3) & (estimated / scale < 3))


@pytest.mark.thorough
@pytest.mark.parametrize("dtype, rtol", [(jnp.float64, 1e-6), (jnp.float32, 1e-3)])
def test_more_than_500_unknowns_end_where_the_dense_solution_is(dtype, rtol: float):
    residuals, units = many(600)
    exact = jnp.zeros(600)
    for _ in range(20):
        jacobian = jax.jacfwd(residuals)(exact)
        exact = exact - jnp.linalg.lstsq(jacobian, residuals(exact))[0]
    found, losses, _ = run(Stage(LevenbergMarquardt(), 15), residuals, jnp.zeros(600, dtype))
    assert np.all(np.diff(losses) < 0)
    np.testing.assert_allclose(found * units, exact * units, atol=rtol)


@pytest.mark.thorough
def test_memory_grows_as_the_unknowns_not_their_square():
    def chain(x):
        return jnp.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x])

    def bytes_of(count: int) -> int:
        start, optimiser, objective = jnp.zeros(count), LevenbergMarquardt(), Squares(chain)
        update = jax.jit(
            lambda learned, state: optimiser.update(objective, learned, state, StageLength(1))
        )
        compiled = update.lower(start, optimiser.init(objective, start)).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert bytes_of(4000) < 3 * bytes_of(2000) < 2000**2


@pytest.mark.thorough
def test_products_leave_an_unknown_alone_that_nothing_depends_on_and_tell_failed_derivatives():
    start = jnp.ones(502)
    found, _, _ = run(Stage(LevenbergMarquardt(), 6), lambda x: x[:501] - 3, start)
    np.testing.assert_allclose(found, [*[3.0] * 501, 1.0], atol=1e-6)

    @jax.custom_jvp
    def flawed(x):
        return x

    flawed.defjvp(lambda x, slope: (x[0], slope[0] * jnp.nan))
    found, _, epoch = first_epoch(Squares(flawed), start)
    np.testing.assert_array_equal(found, start)
    assert not bool(epoch.evaluation.is_finite)


@pytest.mark.thorough
@pytest.mark.parametrize("samples_at_once, memory", [(None, None), (2, None), (None, 2)])
def test_products_of_a_training_loss_are_those_of_its_triangle(samples_at_once, memory):
    """Linearised at once, by parts of the samples, and with few states kept."""
    objective, arrays = objective_of(samples_at_once)
    if memory:
        objective = eqx.tree_at(lambda o: o.memory, objective, ipd.memory.Snapshots(memory))
    flat, _ = ravel_pytree(arrays)

    def products(arrays):
        maps = objective.linear_maps(arrays)
        image = maps.push(jnp.ones_like(flat))
        return maps.residuals, image, maps.pull(image), maps.pull(maps.residuals)

    residuals, image, twice, slope = jax.jit(products)(arrays)
    triangle = jax.jit(lambda arrays: objective.triangle(arrays))(arrays)
    jacobian, rest = triangle[:, :-1], triangle[:, -1]
    expected = jacobian @ np.ones(flat.size)
    assert float(residuals @ residuals) == pytest.approx(float(rest @ rest))
    assert float(image @ image) == pytest.approx(float(expected @ expected), rel=1e-5)
    for found, wanted in ((twice, jacobian.T @ expected), (slope, jacobian.T @ rest)):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * float(jnp.abs(wanted).max()))
