"""What is wrong with a training: before it begins, in an epoch, at its end."""

import math
from collections.abc import Callable, Sequence
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from impindiff._errors import InputError, NumericsError
from impindiff.coefficients import check_spans
from impindiff.latent import latents_of
from impindiff.linear import AdjointOutcome, tolerance_of
from impindiff.rollout import StepFailed, TimeGrid, Trajectory
from impindiff.systems import System
from impindiff.train._objective import Evaluation
from impindiff.train._observations import Observations
from impindiff.train._optimisers import Epoch
from impindiff.train._units import Units, unit_of_each

# An input in a range that is [-1, 1] to the network is then within [-1.2, 1.2].
_MARGIN = 0.1
# What noise of a normal distribution does to one reading in sixteen thousand.
_SPREADS = 4.0


def check_expected(system: System, observations: Observations) -> None:
    """Refuse learned functions whose inputs, as far as data hold them, lie beyond their ranges.

    A range is left where data lie outside of it by more than a tenth of its width, four standard
    deviations of their noise taken off, as far as it is known. That a range is wider than the data
    is no matter: forecasts may need it. Looked at are the fields, at the start and where they are
    read one by one, the sample parameters, the axes, and the time.

    Raises: InputError for the first such input, with both ranges and what to write; and for a field
        whose span leaves out training times.
    """
    check_spans(system, observations.start, max(observations.times), "training")
    found = _found(system, observations)
    for latent in latents_of(system):
        for name, (low, high) in latent.input_ranges.items():
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
        field = name if operator is None else operator.values_of
        if field in system.fields:
            spread = np.asarray(observations.deviations.get(name, 0.0))
            add(str(field), np.asarray(values), spread, operator is None)
    for name, values in observations.sample_parameters.items():
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


# Forward mode has no outcome to carry: what a failed solve leaves is NaN.
_OF_DERIVATIVES = (
    "; or (c) a solve for a derivative of a step, which LevenbergMarquardt takes for each unknown, "
    "missed its tolerance: give the stepper a solver with more steps or a better preconditioner, "
    "or take Adam or LBFGS, which name the solves that fail"
)


def check_epoch(
    epoch: Epoch,
    number: int,
    time_grids: Sequence[TimeGrid],
    cause: Callable[[int, int], str] = lambda sample, step: "",
) -> None:
    """Raise NumericsError if a solve, the loss or the gradient of an epoch failed.

    Raises: InputError too, after the first epoch, for a coefficient that nothing observed depends
        on.

    Args:
        epoch: on the host.
        number: the epoch's number, for the message.
        time_grids: the steps that were taken, in each window of the training data.
        cause: by sample and step, what of the system is not finite there, if that is known.
    """
    evaluation = epoch.evaluation
    # By window, then by sample.
    for window, time_grid in enumerate(time_grids):
        count = evaluation.outcome.result.shape[0] // len(time_grids)
        part = slice(window * count, (window + 1) * count)
        outcome = jax.tree.map(lambda leaf, part=part: leaf[part], evaluation.outcome)
        try:
            Trajectory({}, outcome).check(time_grid)
        except StepFailed as error:
            found = "" if error.is_finite else cause(window * count + error.sample, error.step)
            message = f"{error.message} {found}" if found else str(error)
            raise NumericsError(f"epoch {number}: {message}") from None
    adjoint = AdjointOutcome.from_cotangent(np.sum(evaluation.adjoint, 0))
    if adjoint.failures:
        raise NumericsError(
            f"epoch {number}: {adjoint.failures} of {adjoint.solves} adjoint solves missed their "
            f"tolerance (mean relative residual {adjoint.relative_residual:.2g}), so the gradient "
            "is not to be trusted. Raise adjoint_max_steps or loosen adjoint_rtol."
        )
    numbers = [evaluation.loss, *jax.tree.leaves(evaluation.gradient)]
    if not all(np.isfinite(leaf).all() for leaf in numbers):
        raise NumericsError(
            f"epoch {number}, last of {time_grids[-1].num_steps} time steps: "
            f"{_not_finite(evaluation, cause, time_grids[-1].num_steps - 1)}"
        )
    if number == 1:
        _check_constrained(evaluation)


def _not_finite(evaluation: Evaluation, cause: Callable[[int, int], str], last: int) -> str:
    """What is not finite, and what can be done about it."""
    loss = float(evaluation.loss)
    if not np.isfinite(loss):
        samples = range(len(evaluation.outcome.result))
        found = next(filter(None, (cause(sample, last) for sample in samples)), "")
        remedy = found or "Lower the learning rate, or dt where the stepper is explicit."
        return f"the loss is not finite (loss {loss:g}). {remedy}"
    wild = [
        repr(name)
        for latent in latents_of(evaluation.gradient)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(latent))
        for name in latent.names
    ]
    return (
        f"the gradient of the loss (which is {loss:g}) is not finite by {', '.join(wild)}. Either "
        "(a) a function has no finite slope at a state on the way, such as a root, a logarithm or "
        "a learned power of a field that reaches zero or oversteps it: guard it, as by "
        "jnp.maximum(T, 1e-6), or take a stepper that does not overshoot (SDIRK2, BackwardEuler); "
        "or (b) the learning rate is too high"
        f"{_OF_DERIVATIVES if _solves_for_derivatives(evaluation) else ''}."
    )


def _solves_for_derivatives(evaluation: Evaluation) -> bool:
    """Whether steps are implicit and derivatives are taken forward, without adjoint solves."""
    outcome = evaluation.outcome
    return bool(np.any(outcome.steps) and not np.any(np.asarray(evaluation.adjoint)[..., 0]))


def _check_constrained(evaluation: Evaluation) -> None:
    """Refuse a coefficient that the loss does not feel at all; a perfect fit feels none."""
    if not evaluation.loss > 0:
        return
    for latent in latents_of(evaluation.gradient):
        leaves = jax.tree.leaves(latent)
        if leaves and not any(np.any(leaf) for leaf in leaves):
            raise InputError(
                f"the data do not constrain {', '.join(map(repr, latent.names))}: the gradient by "
                "it is exactly zero. Observe a field that depends on it, at a time and a place "
                "where it can be seen; start it elsewhere, if it is at a bound; or give it as "
                "known."
            )


# Residuals of twice the stated noise: few users know theirs to better than that.
_POOR = 4.0
# Squared relative error of a forecast of nothing but zeros.
_OF_ZEROS = 1.0
# Standard deviations of chi squared above 1, for few readings.
_BEYOND_CHANCE = 5.0
# Share of the loss, and of a learned number, below which nothing has changed.
_NOTHING = 1e-6
# Fall of the loss over a tenth of the last stage, as a share of it, that is still a way down.
_STILL_FALLING = 0.01


@final
class Verdict:
    """Follows a training, and says at its end what is to be said.

    Args:
        observations: what is fitted.
        learned: the learned arrays at the start.
    """

    def __init__(self, observations: Observations, learned: PyTree) -> None:
        self._has_noise = bool(observations.deviations)
        self._has_penalties = bool(observations.penalties)
        self._count = sum(int(jnp.sum(~jnp.isnan(u))) for u in observations.observed.values())
        # Readings of zero alone have no size that a misfit could be relative to.
        self._is_relative = not self._has_noise and all(
            bool(jnp.any(jnp.nan_to_num(u) != 0)) for u in observations.observed.values()
        )
        self._start = jax.device_get(learned)
        self._losses: list[float] = []
        self._flat: list[str] = []
        self._drifts = False
        self._is_comparable = True
        # The loss of a fit that is as good as steps are solved.
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(self._start)] or [np.dtype(np.float32)]
        self._exact = 100 * tolerance_of(None, np.result_type(*dtypes)) ** 2

    def begin_stage(self) -> None:
        """Forget losses that are not of the same steps."""
        self._losses = []

    def after(
        self, epoch: Epoch, number: int, is_before: bool, is_whole: bool, units: Units = ()
    ) -> None:
        """An epoch that counted.

        Args:
            epoch: on the host.
            number: counted from 1 over all stages; the first shows the start.
            is_before: whether its loss and gradient are those before its update.
            is_whole: whether they are of all data at once.
            units: of what is learned, see `find_units`.
        """
        evaluation = epoch.evaluation
        if number == 1:
            self._flat = _flat_latents(evaluation.gradient, float(evaluation.loss), units)
            # Adam takes steps of one length along a slope of any size, be it one of round-off.
            self._drifts = is_before
        self._is_comparable = is_whole
        self._losses.append(float(evaluation.loss))

    def remarks(self, learned: PyTree) -> list[str]:
        """A sentence or two for each thing that is wrong; none where nothing is.

        Args:
            learned: the learned arrays at the end.
        """
        start, bounds = self._of_start(learned), self._of_bounds(learned)
        # What was never learned is why the misfit is large.
        fit = "" if start and self._is_relative else self._of_fit()
        return [text for text in (start, bounds, fit) if text]

    def _of_start(self, learned: PyTree) -> str:
        still = _unmoved(self._start, jax.device_get(learned))
        # A fit that became exact has learned; one that was so from the start has not.
        is_exact = bool(self._losses) and self._losses[-1] <= self._exact
        names = [n for n in self._flat if n in still or (self._drifts and not is_exact)]
        if not names:
            return ""
        return (
            f"the loss had no slope by {', '.join(map(repr, names))} where training began, and "
            "nothing was learned of it. Either (a) the start is so far off that the forecast no "
            "longer depends on it: start elsewhere; (b) nothing observed depends on it: observe "
            "more, or give it as known; or (c) the start is already the best value."
        )

    def _of_bounds(self, learned: PyTree) -> str:
        found = _at_bounds(self._start, jax.device_get(learned))
        if not found or (self._losses and self._losses[-1] <= self._exact):
            return ""
        return (
            f"the training ended at a bound: {'; '.join(found)}. Either (a) the data ask for a "
            "value beyond it: widen the bounds, if such a value is possible; (b) the equations, "
            "the units or a sign do not describe what was measured; or (c) the data do not "
            "determine it, and any value of this size fits: observe more, or give it as known."
        )

    def _of_fit(self) -> str:
        if not (self._losses and self._is_comparable):
            return ""
        chi2 = self._losses[-1]
        if self._is_relative and not self._has_penalties and chi2 > _OF_ZEROS:
            return (
                f"the training ended at a poor fit: the relative misfit is {chi2:.3g}, and that of "
                f"zeros in place of a forecast is 1. {self._remedy()}"
            )
        if not self._has_noise:
            return ""
        if not chi2 > max(_POOR, 1 + _BEYOND_CHANCE * math.sqrt(2 / max(self._count, 1))):
            return ""
        penalised = ", penalties included" if self._has_penalties else ""
        return (
            f"the training ended at a poor fit: chi squared per reading is {chi2:.3g}{penalised} "
            f"({self._count:,} readings), where a fit as good as the stated noise has about 1. "
            f"{self._remedy()}"
        )

    def _remedy(self) -> str:
        tenth = max(1, len(self._losses) // 10)
        if len(self._losses) > tenth:
            before, last = self._losses[-1 - tenth], self._losses[-1]
            if before - last > _STILL_FALLING * before:
                return (
                    f"The loss was still falling, by {100 * (1 - last / before):.0f} % over the "
                    f"last {tenth} of {len(self._losses)} epochs of the last stage: give it more."
                )
        third = (
            "the noise is larger than stated"
            if self._has_noise
            else "what is learned starts far from the size of its values: give initial=, "
            "output_range= or bounds= of that size"
        )
        return (
            "The loss had settled: either (a) this is a local minimum: start elsewhere, or train "
            "from several starts (fit_ensemble); (b) the equations, the grid or the steps do not "
            f"describe what was measured; or (c) {third}."
        )


def _flat_latents(gradient: PyTree, loss: float, units: Units) -> list[str]:
    """Latents whose whole slope, by numbers near 1 in their units, drowns in round-off."""
    found = []
    if units:
        gradient = jax.tree.map(jnp.multiply, gradient, unit_of_each(gradient, units))
    for latent in latents_of(gradient):
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(latent)]
        steepest = max((np.abs(leaf).max(initial=0.0) for leaf in leaves), default=np.inf)
        if steepest <= _NOTHING * loss:
            found.append(", ".join(latent.names))
    return found


def _at_bounds(start: PyTree, end: PyTree) -> list[str]:
    """Latents with learned numbers that went to a bound, and which."""
    found = []
    for before, after in zip(latents_of(start), latents_of(end), strict=True):
        if not (kept := after.kept_inside) or not (first := before.kept_inside):
            continue
        (interval, raw), (_, then) = kept, first
        if raw is not None and then is not None:
            reached = interval.reached(np.asarray(raw), np.asarray(then))
            found += [f"{after.names[0]!r} at {bound:g}" for bound in reached]
    return found


def _unmoved(start: PyTree, end: PyTree) -> Sequence[str]:
    """Latents whose learned numbers are those that training began with."""
    found = []
    for before, after in zip(latents_of(start), latents_of(end), strict=True):
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        if all(np.all(np.abs(b - a) <= _NOTHING * (1 + np.abs(a))) for a, b in pairs):
            found.append(", ".join(before.names))
    return found
