r"""A certificate for the gradients of a config or a run.

What is differentiated is what training minimises, for one sample, at the untrained or the trained
coefficients. In float64 and with tight tolerances: what is certified is the gradient's making, and
a solve to 1e-6 leaves no remainder to see below that. The gradient in the config's own precision
and tolerances is then compared with the certified one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from impindiff._errors import InputError, NumericsError
from impindiff.config import Config, build_stepper
from impindiff.implicit import (
    Anderson,
    GradientCheck,
    ImplicitAdjoint,
    UnrolledAdjoint,
    check_gradient,
)
from impindiff.integrate import AbstractImplicitStepper, AbstractStepper
from impindiff.latent import is_latent, latents_of, learned
from impindiff.linear import AdjointOutcome
from impindiff.observe import squared_misfit
from impindiff.rollout import KeepAll
from impindiff.runs._example import made_up_problem
from impindiff.runs._folder import RunFolder
from impindiff.runs._run_plan import RunPlan, cast, precision
from impindiff.runs._trained import trained_system
from impindiff.systems import System
from impindiff.train import WHOLE, Observations, Part, make_objective, steps_of, whole

_TIGHT = {"rtol": 1e-12, "adjoint_rtol": 1e-12, "max_steps": 5000, "adjoint_max_steps": 5000}
# The unrolled gradient keeps about this many vectors an iteration, the memory of Anderson's among
# them; beyond so many bytes it is not made.
_VECTORS_AN_ITERATION = 20
_MOST_UNROLLED_BYTES = 1_000_000_000
_MOST_ITERATIONS = 200


@final
@dataclass(frozen=True)
class Certificate:
    """What was found.

    Attributes:
        check: Taylor tests by part (learned coefficients and initial fields), and the comparison
            with reverse mode through the iterations, where that fits into memory.
        adjoint: outcome of the adjoint solves of the certified gradient.
        as_trained_error: of the gradient in the config's own precision and tolerances, relative to
            the certified one; infinite where a solve failed.
        as_trained: that precision and tolerance, in words.
        problem: what was differentiated, in words.
    """

    check: GradientCheck
    adjoint: AdjointOutcome
    as_trained_error: float
    as_trained: str
    problem: str

    @property
    def passed(self) -> bool:
        """Whether every test passed and every adjoint solve converged."""
        return self.check.passed and self.adjoint.failures == 0

    def as_dict(self) -> dict[str, Any]:
        """As documented for `check-gradient --json`."""
        return {
            "passed": self.passed,
            "directions": [
                {
                    "with_respect_to": found.with_respect_to,
                    "rate": found.rate if np.isfinite(found.rate) else None,
                    "relative_error": _finite(found.relative_error),
                }
                for found in self.check.directions
            ],
            "adjoint": {
                "converged": self.adjoint.failures == 0,
                "relative_residual": self.adjoint.relative_residual,
            },
        }


def certify(
    config: Config,
    data_file: Path | None,
    folder: RunFolder | None = None,
    num_directions: int = 3,
) -> Certificate:
    """Test the gradients that training by a config takes.

    Args:
        config: whose system, times, step and scheme are taken.
        data_file: the data; without them fields are made up.
        folder: a run, whose trained coefficients are taken.
        num_directions: random directions for each part.

    Raises: InputError for what does not fit together; NumericsError where the loss itself cannot be
        computed.
    """
    if num_directions < 1:
        raise InputError(f"--directions is {num_directions}: at least 1 is needed.")
    jax.config.update("jax_enable_x64", True)
    tight = config.model_copy(
        update={"precision": "float64", "solver": config.solver.model_copy(update=_TIGHT)}
    )
    if data_file is None:
        system, observations, problem = made_up_problem(tight)
    else:
        plan = RunPlan.make(tight, data_file, data_file.parent)
        system, observations = plan.system, plan.observations
        problem = f"sample {plan.train_samples[0]} of {data_file}"
    if folder is not None:
        system = cast(trained_system(folder), jnp.dtype(jnp.float64))
    stepper = build_stepper(tight, system)
    point = _parts(system, observations)
    steps = steps_of(observations, WHOLE, config.time.dt, stepper, config.time.control)
    time_grid = steps.whole(steps.find(system))

    def loss_by(stepper: AbstractStepper) -> Callable[..., tuple[jax.Array, Any]]:
        return _make_loss(system, observations, time_grid, stepper)

    loss = loss_by(stepper)
    probe = AdjointOutcome.probe(jnp.float64)
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (gradient, cotangent), trajectory = gradients(point, probe)
    trajectory.check(time_grid)
    reference, why_not = _unrolled(stepper, loss_by, point)
    of_reference = None if reference is None else lambda p: loss_by(reference)(p, probe)[0]
    test = partial(
        check_gradient, point=point, num_directions=num_directions, accuracy=_TIGHT["rtol"]
    )
    try:
        check = test(lambda p: loss(p, probe)[0], reference=of_reference)
        alone = replace(check, reference_error=None)
        # Accelerated is what the state varies by. Where that is in fewer ways than there are
        # unknowns, as from an even state, the iterates converge, and their derivatives do not.
        if of_reference and alone.passed and not check.passed and test(of_reference).lags(check):
            check = alone
            why_not = "; the derivative of the iteration to compare with does not converge"
    except InputError:
        raise
    except ValueError as error:
        raise NumericsError(str(error)) from None
    dtype, own_stepper = precision(config), build_stepper(config, system)
    return Certificate(
        check,
        AdjointOutcome.from_cotangent(cotangent),
        _as_trained(loss_by(own_stepper), point, gradient, dtype),
        f"{dtype}, {_tolerances(config.solver)}",
        f"{problem}, {time_grid.num_steps} steps to t = {observations.times[-1]:g}{why_not}",
    )


def _tolerances(table: Any) -> str:
    """What a config says of tolerances."""
    if table.rtol is None and table.adjoint_rtol is None:
        return "tolerances of that precision"
    given = {"rtol": table.rtol, "adjoint_rtol": table.adjoint_rtol}
    return ", ".join(f"{key} {value:g}" for key, value in given.items() if value is not None)


def _parts(system: System, observations: Observations) -> dict[str, PyTree]:
    """What is differentiated by, by name: learned arrays, and the first sample's start."""
    parts = {
        ", ".join(latent.names): eqx.filter(latent, learned(latent))
        for latent in latents_of(system)
    }
    begun = {f: u[0] for f, u in observations.initial.items() if f not in system.initial}
    return parts | {f"initial {field}": u for field, u in begun.items()}


def _make_loss(system, observations, time_grid, stepper):
    one = {
        name: {key: u[:1] for key, u in getattr(observations, name).items()}
        for name in ("initial", "observed", "deviations", "sample_parameters")
    }
    first = whole(replace(observations, **one), time_grid)
    # Apart from the learned arrays nothing of the system depends on the point.
    dynamic, static = eqx.partition(system, eqx.is_array)

    def loss(point, probe):
        dtype = jax.tree.leaves(point)[0].dtype
        here = jax.tree.map(lambda leaf: _to(leaf, dtype), eqx.combine(dynamic, static))
        here = jax.tree.map(lambda node: _with_learned(node, point), here, is_leaf=is_latent)
        batch = jax.tree.map(lambda leaf: _to(leaf, dtype), first)
        begun = {f: point.get(f"initial {f}", u[0])[None] for f, u in batch.initial.items()}
        batch = replace(batch, initial=begun)
        objective = make_objective(here, batch, stepper)
        part = Part(batch.initial, batch.observed, batch.deviations, batch.sample_parameters)
        shared = here.prepare_shared(dtype)
        trajectory = objective.trajectories(shared, probe[None], part, KeepAll())
        predicted = objective.predicted(trajectory.states)
        value = squared_misfit(predicted, batch.observed, objective.scale, batch.deviations)
        if batch.penalties:
            arrays = eqx.filter(here, learned(here))
            value = value + jnp.sum(objective.penalty_residuals(arrays) ** 2)
        return value, trajectory

    return loss


def _with_learned(node, point):
    return eqx.combine(point[", ".join(node.names)], node) if is_latent(node) else node


def _to(leaf, dtype):
    return leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf


def _unrolled(stepper, loss_by, point) -> tuple[AbstractStepper | None, str]:
    """The same steps by an iteration that reverse mode can go through, or why there is none.

    By Anderson's: the derivative of a Krylov iterate converges far behind the iterate.
    """
    if not isinstance(stepper, AbstractImplicitStepper):
        return None, ""
    solver = Anderson(UnrolledAdjoint(), rtol=1e-13, max_steps=_MOST_ITERATIONS)
    trial = replace(stepper, solver=replace(solver, adjoint=ImplicitAdjoint()))
    _, trajectory = jax.jit(loss_by(trial))(point, AdjointOutcome.probe())
    outcome = trajectory.outcome
    if not bool(outcome.converged.all()):
        return None, "; too stiff for an iteration to compare with"
    most = max(1, int(outcome.steps.max()))
    cells = sum(u.size for name, u in point.items() if name.startswith("initial "))
    needed = most * outcome.steps.size * cells * 8 * _VECTORS_AN_ITERATION
    if needed > _MOST_UNROLLED_BYTES:
        return None, f"; reverse mode through iterations would need {needed / 1e9:.1f} GB"
    return replace(stepper, solver=replace(solver, max_steps=most)), ""


def _as_trained(loss, point, gradient, dtype) -> float:
    cast_point = jax.tree.map(lambda leaf: leaf.astype(dtype), point)
    probe = AdjointOutcome.probe()
    found, _ = jax.jit(jax.grad(loss, has_aux=True))(cast_point, probe)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(gradient), strict=True)
    differences = [(np.asarray(a, np.float64) - b, b) for a, b in pairs]
    above, below = (
        np.sqrt(sum(float(np.vdot(d, d)) for d in c)) for c in zip(*differences, strict=True)
    )
    return float(above / below) if np.isfinite(above) and below else float("inf")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
