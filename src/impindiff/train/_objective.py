r"""The training loss as a function of the learned arrays, with what its solves did.

The loss is a sum of squares: the misfit of what was observed, and penalties on the learned
coefficients. Optimisers that need no more than a gradient get it by reverse mode; a least-squares
method also gets the residuals' derivative, by forward mode.
"""

import abc
from collections.abc import Sequence
from dataclasses import replace
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from impindiff._errors import InputError, blamed_on
from impindiff._types import Scalar, State
from impindiff.coefficients import Instant
from impindiff.integrate import AbstractStepper
from impindiff.latent import latents_of
from impindiff.linear import AdjointOutcome
from impindiff.observe import AbstractPenalty, misfit_residuals, misfit_scale, squared_misfit
from impindiff.rollout import (
    KeepAll,
    MemoryPolicy,
    Snapshots,
    StepOutcome,
    TimeGrid,
    Trajectory,
    simulate,
)
from impindiff.systems import PreparedSystem, System, starts_of
from impindiff.train._batches import Batch, Part, in_parts, parts_of
from impindiff.train._least_squares import LinearMaps, fold, linearised, maps_of


def penalty_residuals(
    system: System, learned: PyTree, penalties: Sequence[AbstractPenalty], time_grid: TimeGrid
) -> Float[Array, " entries"]:
    """The vector whose squares add up to all penalties.

    Of coefficients that vary in time, to the mean over the times.

    Args:
        system: with what is learned.
        learned: its learned arrays.
        penalties: at least one.
        time_grid: which saves the observed times.

    Raises: InputError for a penalty that sees the slopes alone of what has none.
    """
    unsloped = {name for one in latents_of(system) if one.is_number for name in one.names}
    for penalty in penalties:
        if numbers := sorted(unsloped.intersection(penalty.slopes_of)):
            raise InputError(
                f"{type(penalty).__name__} is on {numbers[0]!r}, which is one number in all cells "
                "and has no slope: name a field, or leave the penalty out."
            )

    def residuals(time: Instant | None = None) -> Float[Array, " entries"]:
        latents = system.latents(time)
        parts = []
        for penalty in penalties:
            with blamed_on(f"the penalty {type(penalty).__name__}"):
                parts.append(penalty.residuals(latents, learned, system.grid))
        return jnp.concatenate(parts)

    if all(latent.is_steady for latent in latents_of(system)):
        return residuals()
    dtype = jnp.result_type(*jax.tree.leaves(learned))
    elapsed = jnp.asarray(time_grid.elapsed_saved, dtype)
    origin = jnp.asarray(time_grid.origin, dtype)
    found = jax.vmap(lambda since: residuals(Instant(since, origin)))(elapsed)
    return found.ravel() / len(elapsed) ** 0.5


@final
class Evaluation(eqx.Module):
    """The loss and its gradient at one point.

    Attributes:
        loss: the misfit.
        gradient: of the learned arrays' structure.
        outcome: of the forward solves, `(sample, step)`.
        adjoint: cotangent of each sample's probe, whose sum `AdjointOutcome.from_cotangent` reads.
    """

    loss: Scalar
    gradient: PyTree
    outcome: StepOutcome
    adjoint: Float[Array, "*samples 4"]

    @property
    def is_finite(self) -> Bool[Array, ""]:
        """Whether loss and gradient are finite and every solve converged."""
        leaves = [self.loss, *jax.tree.leaves(self.gradient)]
        finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))
        return finite & self.outcome.converged.all()


@final
class TrialUnits(eqx.Module):
    """In which units an optimiser sees what is learned.

    Attributes:
        of_components: one for each component of each latent, see `find_units`.
        is_held: whether the learned arrays stay as they are, whatever the optimiser does.
    """

    of_components: tuple[Scalar, ...]
    is_held: Bool[Array, ""]


@final
class Trial(eqx.Module):
    """How one evaluation of the loss departs from what was asked for, for compiled code.

    Attributes:
        active: which samples count; all where None.
        rtol: a looser tolerance than the solvers' own; theirs where None.
        units: in which learned numbers are changed; as they are where None.
    """

    active: Bool[Array, " samples"] | None = None
    rtol: Float[Array, ""] | None = None
    units: TrialUnits | None = None


class AbstractObjective(eqx.Module):
    """What an optimiser makes small, as a function of the learned arrays."""

    @abc.abstractmethod
    def __call__(self, learned: PyTree) -> Evaluation:
        """The loss and its gradient."""

    def value(self, learned: PyTree) -> tuple[Scalar, StepOutcome]:
        """The loss without its gradient, and the outcome of the forward solves."""
        evaluation = self(learned)
        return evaluation.loss, evaluation.outcome

    def triangle(self, learned: PyTree) -> Float[Array, "columns columns"]:
        """The residuals of a sum of squares and their derivative, see `_least_squares`.

        Raises: InputError for an objective that is no sum of squares.
        """
        raise self._has_no_residuals

    def linear_maps(self, learned: PyTree) -> LinearMaps:
        """The residuals of a sum of squares, and products with their derivative.

        Raises: InputError for an objective that is no sum of squares.
        """
        raise self._has_no_residuals

    @property
    def _has_no_residuals(self) -> InputError:
        return InputError(
            f"LevenbergMarquardt needs a sum of squares, and {type(self).__name__} has no "
            "residuals: use LBFGS."
        )


@final
class TrainingLoss(AbstractObjective):
    """The loss of a system on observations; called with the learned arrays.

    Steady coefficients are evaluated, and differentiated, once, however many parts the samples are
    taken in.

    Attributes:
        frozen: the system without its learned arrays (`None` in their place), see
            `equinox.partition`.
        batch: what to fit.
        stepper: advances one step.
        rtol: a looser tolerance than the solvers' own; theirs where None.
        memory: which states are kept for the gradient.
        samples_at_once: how many samples' states are held at a time, their gradients being added
            up; all where None.
        scale: of the whole batch, so that the losses of its parts add up to its own; or of all
            batches, see `Batches.scale`.
    """

    frozen: System
    batch: Batch
    stepper: AbstractStepper
    rtol: Scalar | None
    memory: MemoryPolicy
    samples_at_once: int | None
    scale: dict[str, Scalar]

    def __call__(self, learned: PyTree) -> Evaluation:
        """The loss and its gradient, by reverse mode."""
        prepared, pull = eqx.filter_vjp(
            lambda learned: eqx.combine(learned, self.frozen).prepare_shared(self.dtype), learned
        )
        arrays, rest = eqx.partition(prepared, eqx.is_inexact_array)

        def loss(arrays, probe, part: Part):
            trajectory = self.trajectories(eqx.combine(arrays, rest), probe, part, self.memory)
            predicted = self.predicted(trajectory.states)
            misfit = squared_misfit(predicted, part.observed, self.scale, part.deviations)
            return misfit, trajectory.outcome

        def of_part(part: Part):
            probe = jnp.tile(AdjointOutcome.probe(), (part.num_samples, 1))
            value_and_grad = jax.value_and_grad(
                lambda arrays, probe: loss(arrays, probe, part), argnums=(0, 1), has_aux=True
            )
            (value, outcome), (gradient, adjoint) = value_and_grad(arrays, probe)
            return (value, gradient), (outcome, adjoint)

        (value, gradient), (outcome, adjoint) = in_parts(of_part, self.batch, self.samples_at_once)
        (gradient,) = pull(gradient)
        if self.batch.penalties:
            penalty, slope = eqx.filter_value_and_grad(
                lambda learned: jnp.sum(self.penalty_residuals(learned) ** 2)
            )(learned)
            value = value + penalty.astype(value.dtype)
            gradient = jax.tree.map(jnp.add, gradient, slope)
        return Evaluation(value, gradient, outcome, adjoint)

    def value(self, learned: PyTree) -> tuple[Scalar, StepOutcome]:
        """The loss without its gradient, and the outcome of the forward solves."""
        prepared = eqx.combine(learned, self.frozen).prepare_shared(self.dtype)

        def of_part(part: Part):
            predicted, outcome = self.forward(prepared, part)
            misfit = squared_misfit(predicted, part.observed, self.scale, part.deviations)
            return misfit, outcome

        value, outcome = in_parts(of_part, self.batch, self.samples_at_once)
        if self.batch.penalties:
            value = value + jnp.sum(self.penalty_residuals(learned) ** 2).astype(value.dtype)
        return value, outcome

    def triangle(self, learned: PyTree) -> Float[Array, "columns columns"]:
        """The residuals and their derivative, by forward mode, see `_least_squares`.

        Some samples after others, as the gradient. A solve that failed leaves NaN.
        """
        flat, restore = ravel_pytree(learned)

        def fold_part(triangle, part: Part):
            def residuals(flat):
                prepared = eqx.combine(restore(flat), self.frozen).prepare_shared(self.dtype)
                predicted, _ = self.forward(prepared, part)
                return misfit_residuals(predicted, part.observed, self.scale, part.deviations)

            return fold(triangle, linearised(residuals, flat)), None

        empty = jnp.zeros((flat.size + 1,) * 2, self.dtype)
        triangle, _ = jax.lax.scan(fold_part, empty, parts_of(self.batch, self.samples_at_once))
        if self.batch.penalties:
            rows = linearised(lambda flat: self.penalty_residuals(restore(flat)), flat)
            triangle = fold(triangle, rows.astype(self.dtype))
        return triangle

    def linear_maps(self, learned: PyTree) -> LinearMaps:
        """The residuals, and products with their derivative, for which no matrix is held."""
        flat, restore = ravel_pytree(learned)
        steps = self.batch.time_grid.num_steps
        kept = self.memory.count if isinstance(self.memory, Snapshots) else steps

        def of_part(flat, part: Part, keeps_all: bool):
            prepared = eqx.combine(restore(flat), self.frozen).prepare_shared(self.dtype)
            memory = KeepAll() if keeps_all else self.memory
            predicted, _ = self.forward(prepared, part, memory)
            return misfit_residuals(predicted, part.observed, self.scale, part.deviations)

        def of_penalties(flat):
            if not self.batch.penalties:
                return jnp.zeros(0, self.dtype)
            return self.penalty_residuals(restore(flat)).astype(self.dtype)

        parts = parts_of(self.batch, self.samples_at_once)
        return maps_of(of_part, of_penalties, flat, parts, kept >= steps)

    def forward(
        self, prepared: PreparedSystem, part: Part, memory: MemoryPolicy = KeepAll()
    ) -> tuple[State, StepOutcome]:
        """The readings of some samples; by default no reverse mode is to follow."""
        probe = jnp.tile(AdjointOutcome.probe(), (part.num_samples, 1))
        trajectory = self.trajectories(prepared, probe, part, memory)
        return self.predicted(trajectory.states), trajectory.outcome

    @property
    def dtype(self) -> jnp.dtype:
        """The precision of the fields."""
        return jnp.result_type(*self.batch.initial.values())

    def trajectories(
        self,
        prepared: PreparedSystem,
        probe: Float[Array, "samples 4"],
        part: Part,
        memory: MemoryPolicy,
    ) -> Trajectory:
        """States at the observed times, and the outcomes of all solves, of some samples."""
        start = self.batch.time_grid.start(self.dtype)
        begin = (lambda one: one.start(start)), part.sample_parameters, part.num_samples
        initial = part.initial | starts_of(prepared, *begin)

        def run(initial, sample_parameters, probe):
            return simulate(
                prepared.with_sample_parameters(sample_parameters),
                initial,
                self.batch.time_grid,
                self.stepper,
                probe=probe,
                rtol=self.rtol,
                memory=memory,
                # Samples that failed are masked by their outcome: NaN would reach the others.
                on_failure="keep",
            )

        return jax.vmap(run)(initial, part.sample_parameters, probe)

    def predicted(self, states: State) -> State:
        """The readings of all that was observed, by its name."""
        operators, rows = self.batch.operators, np.array(self.batch.rows, int)
        found = {}
        for name in self.batch.observed:
            with blamed_on(f"the observation {name!r}"):
                each = operators.get(name)
                found[name] = states[name] if each is None else jax.vmap(jax.vmap(each))(states)
        # A state that was observed several times is compared with each of its readings.
        return {name: values[:, rows] for name, values in found.items()} if rows.size else found

    def penalty_residuals(self, learned: PyTree) -> Float[Array, " entries"]:
        """The vector whose squares add up to all penalties."""
        system, time_grid = eqx.combine(learned, self.frozen), self.batch.time_grid
        return penalty_residuals(system, learned, self.batch.penalties, time_grid)


def make_objective(
    frozen: System,
    batch: Batch,
    stepper: AbstractStepper,
    trial: Trial = Trial(),
    memory: MemoryPolicy = KeepAll(),
    samples_at_once: int | None = None,
) -> TrainingLoss:
    """The loss of a system on observations, see `TrainingLoss`.

    Args:
        frozen: the system without its learned arrays.
        batch: what to fit.
        stepper: advances one step.
        trial: samples to leave out, a looser tolerance.
        memory: which states are kept for the gradient.
        samples_at_once: how many samples' states are held at a time.
    """
    if trial.active is not None:
        batch = _without_masked(batch, trial.active)
    if isinstance(memory, KeepAll):
        # Only reverse mode is wanted here: then the end of a step is kept as the next one's start,
        # not a second time.
        memory = Snapshots(batch.time_grid.num_steps)
    elif memory.count > batch.time_grid.num_steps:
        # Steps that follow their error may have become fewer.
        memory = Snapshots(batch.time_grid.num_steps)
    scale = misfit_scale(batch.observed, batch.deviations)
    return TrainingLoss(frozen, batch, stepper, trial.rtol, memory, samples_at_once, scale)


def _without_masked(batch: Batch, active: Bool[Array, " samples"]) -> Batch:
    """Observations without those of masked samples, which begin as one that is not masked does."""

    def select(values: Array, otherwise: Array | float) -> Array:
        return jnp.where(active.reshape(-1, *(1,) * (values.ndim - 1)), values, otherwise)

    harmless = jnp.argmax(active)
    return replace(
        batch,
        initial={name: select(u, u[harmless]) for name, u in batch.initial.items()},
        observed={name: select(u, jnp.nan) for name, u in batch.observed.items()},
        sample_parameters={
            name: select(u, u[harmless]) for name, u in batch.sample_parameters.items()
        },
    )
