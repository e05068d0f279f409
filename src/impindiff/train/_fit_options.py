"""How a fit is computed, validated and watched: what `fit`, `fit_ensemble` and `plan` share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, final

import numpy as np
from jaxtyping import DTypeLike
from pydantic import BaseModel

from impindiff._errors import InputError, as_count
from impindiff.coefficients import real_precision
from impindiff.data import Start
from impindiff.integrate import AbstractStepper, check_is_stepper
from impindiff.observe import AbstractObservation, AbstractPenalty
from impindiff.rollout import (
    KeepAll,
    MemoryBudget,
    MemoryPolicy,
    Snapshots,
    StepControl,
    check_is_control,
    stepper_for,
)
from impindiff.systems import System
from impindiff.train._adaptation import ProgressiveTolerance, Rescue, SolveFailure
from impindiff.train._checkpoints import Checkpoints
from impindiff.train._early_stopping import EarlyStopping


class EpochRecord(BaseModel):
    """One line of `metrics.jsonl`.

    Attributes:
        epoch: counted from 1 over all stages.
        stage: the optimiser's name.
        loss: training loss.
        validation: what the validation function returned, in epochs in which it was called.
        seconds: training time so far, compilation included.
        solver_iterations: mean iterations of a forward solve.
        adjoint_iterations: mean iterations of an adjoint solve.
        learning_rate: step length of the optimiser, where it tells.
        rtol: tolerance of the epoch's solves, where it was looser than their own.
        failures: solves that failed before the epoch succeeded, the first of each sample.
        stopped_early: whether the stage ended with it since its error no longer fell.
    """

    epoch: int
    stage: str
    loss: float
    validation: float | None
    seconds: float
    solver_iterations: float
    adjoint_iterations: float
    learning_rate: float | None
    rtol: float | None = None
    failures: list[SolveFailure] = []
    stopped_early: bool = False


Watcher = Callable[[EpochRecord], None]
"""Called with every epoch's record, in order, before the epoch counts as done."""


class FittedData(TypedDict, total=False):
    """The keyword arguments of `fit` that say what is fitted; see there."""

    samples: str | Sequence[int] | None
    times: Sequence[float] | np.ndarray | None
    start: Start | None
    observe: Sequence[AbstractObservation] | None
    regularise: Sequence[AbstractPenalty]


@final
@dataclass(frozen=True)
class Validation:
    """How the error of a system is followed while it is trained.

    Args:
        error: gives a number for the system as it is, such as the error of samples held back; the
            training loss is followed where it is None.
        every: epochs between two calls of it; it is also called at the end of each stage.
        early_stopping: when to end a stage whose error no longer falls; never where None.

    Raises: InputError for fewer than one epoch between two calls.
    """

    error: Callable[[System], float] | None = None
    every: int = 10
    early_stopping: EarlyStopping | None = None

    def __post_init__(self) -> None:
        """Refuse a validation in no epoch."""
        as_count(self.every, "every of Validation", 1)


_KINDS: dict[str, tuple[tuple[Any, ...], str]] = {
    "memory": (
        (KeepAll, Snapshots, MemoryBudget),
        "KeepAll(), Snapshots(20) or MemoryBudget('2GiB')",
    ),
    "rescue": ((Rescue, type(None)), "Rescue()"),
    "progressive_tolerance": ((ProgressiveTolerance, type(None)), "ProgressiveTolerance()"),
    "validation": ((Validation,), "Validation(error, every=10)"),
    "watch": ((Callable, type(None)), "a function of a record"),
    "checkpoints": ((str, Path, Checkpoints, type(None)), "a folder, or Checkpoints(folder)"),
}


@final
@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How a fit is computed, validated, watched and saved.

    Args:
        stepper: advances one step. By default Crank-Nicolson, and ESDIRK4 where steps follow their
            error.
        memory: which states are kept for the gradient: all, so many, or what fits a budget.
        samples_at_once: how many samples' states are held at a time, their gradients being added
            up; all where None. The result is the same, to round-off.
        rescue: what to do where a solve fails; without, training ends there.
        progressive_tolerance: looser solves at first; without, all are as tight as the stepper's
            solver says.
        dtype: precision of the fields; where None that of the data, as far as JAX computes in it
            (double precision needs `jax_enable_x64`). What is learned keeps its own.
        control: how exact steps without `dt` are to be. By default as exact as the precision, or as
            3 % of the noise where that is stated and more.
        seed: of the order in which batches are drawn, where a stage has any.
        validation: the error to follow, and when to stop early.
        watch: called with each epoch's `EpochRecord`; `fit_ensemble` passes an `EnsembleRecord`.
        checkpoints: folder to save to, and to go on from where it holds a checkpoint already: of a
            training on the same data, with the same known numbers.

    Raises: InputError for a stepper, a control or any other part that is none, and a precision that
        JAX does not compute in.
    """

    stepper: AbstractStepper | None = None
    memory: MemoryPolicy | MemoryBudget = KeepAll()
    samples_at_once: int | None = None
    rescue: Rescue | None = None
    progressive_tolerance: ProgressiveTolerance | None = None
    dtype: DTypeLike | None = None
    control: StepControl | None = None
    seed: int = 0
    validation: Validation = Validation()
    watch: Callable[[Any], None] | None = None
    checkpoints: str | Path | Checkpoints | None = None

    def __post_init__(self) -> None:
        """Refuse what could not take a step."""
        if self.stepper is not None:
            check_is_stepper(self.stepper)
        if self.control is not None:
            check_is_control(self.control)
        if self.samples_at_once is not None:
            as_count(self.samples_at_once, "samples_at_once of FitOptions", 1)
        if self.dtype is not None:
            real_precision(self.dtype)
        as_count(self.seed, "the seed of FitOptions", 0)
        for name, (kinds, such_as) in _KINDS.items():
            given = getattr(self, name)
            if not isinstance(given, kinds):
                raise InputError(
                    f"{name} of FitOptions is {given!r:.60}: give {such_as}, or leave it out."
                )

    def stepper_for(self, dt: float | None) -> AbstractStepper:
        """What advances one step: of at most `dt`, or as long as its error allows."""
        return stepper_for(dt, self.stepper, self.control)
