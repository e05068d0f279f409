"""Fitting in one call."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from impindiff._errors import numerics_errors, warn_caller
from impindiff.data import Start
from impindiff.observe import AbstractObservation, AbstractPenalty
from impindiff.systems import System
from impindiff.train._earlier_call import takes_earlier_calls
from impindiff.train._fit_options import FitOptions
from impindiff.train._observations import Observations
from impindiff.train._stages import Stage, default_stages
from impindiff.train._steady_data import takes_steady_data
from impindiff.train._trainer import Trainer


@takes_earlier_calls
@takes_steady_data
@numerics_errors()
def fit(
    system: System,
    data: xr.Dataset,
    *,
    samples: str | Sequence[int] | None = None,
    times: Sequence[float] | np.ndarray | None = None,
    dt: float | None = None,
    start: Start | None = None,
    observe: Sequence[AbstractObservation] | None = None,
    regularise: Sequence[AbstractPenalty] = (),
    stages: Sequence[Stage] | None = None,
    options: FitOptions = FitOptions(),
) -> System:
    """Train the latents of a system on what was observed.

    Args:
        system: the equations, with latents where coefficients are unknown.
        data: in the documented layout; initial fields are those at `start`. Sample parameters of
            the system are taken from them, too. Data without a dimension `time` are those of
            steady states, see [training](docs/training.md): then `dt`, `times` and `start` are not
            given, and where samples start is a guess, the mean of what was observed of a field.
        samples: which samples, such as "0:5"; all by default.
        times: times of the observations to fit; by default all after the start.
        dt: longest time step, for stages that do not set their own. Where None, steps are as long
            as their error allows, see `impindiff.steppers.simulate_controlled`; they are found at
            the start of a stage and again after 1, 2, 4, 8, ... epochs, and held in between.
        start: when simulations begin: "first" of the data's times, or the time itself. By default
            the first. Where the system gives initial values, they hold at t = 0, or at the time
            that the dataset's attribute `begun` names, and elsewhere `start` must say when; it
            need not be one of the data's times if the system gives those of all fields.
        observe: what was measured and how; by default each field, cell by cell, as far as it was
            observed. A field that no observation is of is hidden: it takes part, from its initial
            values on.
        regularise: penalties on learned coefficients, added to the misfit.
        stages: one after the other. By default `Stage(LevenbergMarquardt(), 50)` for up to 64
            learned numbers; for more `Stage(Adam(), 100)`, then `Stage(LBFGS(), 200)`, where Adam
            learns from windows of one interval if all fields were observed in all cells.
        options: how to compute, validate, watch and save.

    Returns: the trained system.
    Warns: RuntimeWarning where the noise is stated and chi squared per reading stays far above 1,
        and for latents by which the loss has no slope where training begins.
    Raises: InputError for data that do not fit the system, or a memory budget that is too small;
        NumericsError if a solve, the loss or the gradient fails.
    """
    observations = Observations.of(
        system, data, samples, times, options.dtype, observe, regularise, start
    )
    if stages is None:
        learned, known = Trainer.split(system)
        has_rescue = options.rescue is not None
        stages = default_stages(learned, known, observations, has_rescue=has_rescue)
    trainer = Trainer(system, observations, dt, stages, options)
    trained = trainer.run(resume=options.checkpoints is not None)
    for remark in trainer.remarks:
        warn_caller(remark)
    return trained
