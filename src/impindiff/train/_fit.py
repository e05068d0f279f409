"""Fitting in one call."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import DTypeLike

from impindiff._errors import numerics_told
from impindiff.data import Start
from impindiff.integrate import AbstractStepper, CrankNicolson, check_is_stepper
from impindiff.observe import AbstractObservation, AbstractPenalty
from impindiff.rollout import KeepAll, MemoryBudget, MemoryPolicy
from impindiff.systems import System
from impindiff.train._by_name import as_names
from impindiff.train._checkpoint import Checkpoints
from impindiff.train._default_stages import default_stages
from impindiff.train._early_stopping import EarlyStopping
from impindiff.train._loop import Trainer
from impindiff.train._observations import Observations
from impindiff.train._optimisers import AbstractOptimiser
from impindiff.train._record import EpochRecord, Watcher
from impindiff.train._rescue import Rescue
from impindiff.train._tolerance import ProgressiveTolerance


@numerics_told()
def fit(
    system: System,
    dataset: xr.Dataset,
    *,
    samples: str | Sequence[int],
    times: Sequence[float] | np.ndarray | None = None,
    dt: float,
    observe: Sequence[AbstractObservation] | None = None,
    regularise: Sequence[AbstractPenalty] = (),
    stages: Sequence[AbstractOptimiser] | None = None,
    stepper: AbstractStepper | None = None,
    watch: Watcher | None = None,
    checkpoints: str | Path | None = None,
    dtype: DTypeLike | None = None,
    start: Start | None = None,
    rescue: Rescue | None = None,
    progressive_tolerance: ProgressiveTolerance | None = None,
    memory: MemoryPolicy | MemoryBudget = KeepAll(),
    samples_at_once: int | None = None,
    freeze: str | Sequence[str] = (),
    validate: Callable[[System], float] | None = None,
    validate_every: int = 10,
    early_stopping: EarlyStopping | None = None,
    seed: int = 0,
) -> System:
    """Train the latents of a system on what was observed.

    Args:
        system: the equations, with latents where coefficients are unknown.
        dataset: the data, in the documented layout; initial fields are those at `start`.
            What the system awaits of settings is taken from it, too.
        samples: which samples, such as "0:5".
        times: times of the observations to fit; by default all after the start.
        dt: longest time step.
        observe: what was measured and how; by default each field, cell by cell, as far as it was
            observed. A field that no observation is of is hidden: it takes part, from its initial
            values on.
        regularise: penalties on learned coefficients, added to the misfit.
        stages: optimisers, one after the other. By default `LevenbergMarquardt(50)` for up to 64
            learned numbers; for more `Adam(100)`, then `LBFGS(200)`, where Adam learns from windows
            of one interval if all fields were observed in all cells.
        stepper: advances one step; Crank-Nicolson by default.
        watch: called with every epoch's record.
        checkpoints: folder to save to, and to go on from where it holds a checkpoint already.
        dtype: precision of the fields; where None that of the data, as far as JAX computes in it
            (double precision needs `jax_enable_x64`). What is learned keeps its own.
        start: when simulations begin: "first" of the data's times, or the time itself. By default
            the first. Where the system gives initial values, they hold at t = 0, or at the time
            that the dataset's attribute `begun` names, and elsewhere `start` must say when; it
            need not be one of the dataset's times if the system gives those of all fields.
        rescue: what to do where a solve fails; without, training ends there.
        progressive_tolerance: looser solves at first; without, none.
        memory: which states are kept for the gradient: all, so many, or what fits a budget.
        samples_at_once: how many samples' states are held at a time, their gradients being added
            up; all where None. The result is the same, to round-off.
        freeze: names of latents that keep their values; a stage may freeze others besides.
        validate: gives an error of the system as it is, such as that of samples held back.
        validate_every: epochs between two calls of it; it is also called at the end of each stage.
        early_stopping: when to end a stage whose error no longer falls.
        seed: of the order in which batches are drawn, where a stage has any.

    Returns: the trained system.
    Warns: RuntimeWarning where the noise is stated and chi squared per reading stays far above 1,
        and for latents by which the loss has no slope where training begins.
    Raises: InputError for data that do not fit the system, or a memory budget that is too small;
        NumericsError if a solve, the loss or the gradient fails.
    """
    stepper = CrankNicolson() if stepper is None else stepper
    check_is_stepper(stepper)
    observations = Observations.of(
        system, dataset, samples, times, dtype, observe, regularise, start
    )
    if stages is None:
        arrays, known = Trainer.split(system)
        frozen = as_names(freeze)
        stages = default_stages(
            arrays, known, observations, freeze=frozen, has_rescue=rescue is not None
        )
    trainer = Trainer(
        system,
        observations,
        stepper,
        dt,
        stages,
        checkpoints=Checkpoints(Path(checkpoints)) if checkpoints else None,
        rescue=rescue,
        progressive_tolerance=progressive_tolerance,
        memory=memory,
        samples_at_once=samples_at_once,
        freeze=freeze,
        validate=validate,
        validate_every=validate_every,
        early_stopping=early_stopping,
        seed=seed,
    )
    trained = trainer.run(watch or _ignore, resume=checkpoints is not None)
    for remark in trainer.remarks:
        warnings.warn(remark, RuntimeWarning, stacklevel=2)
    return trained


def _ignore(record: EpochRecord) -> None:
    pass
