"""What was measured, how far predictions are from it, and what else is held against a model."""

from impindiff.observe._averages import LineAverage, VolumeAverage, VolumeIntegral
from impindiff.observe._misfit import (
    deviations_of,
    misfit_residuals,
    misfit_scale,
    relative_error,
    squared_misfit,
)
from impindiff.observe._operator import (
    AbstractObservation,
    AbstractOperator,
    Measured,
    measure,
    readings_shape,
)
from impindiff.observe._penalties import (
    AbstractPenalty,
    DivergenceFree,
    Smoothness,
    TotalVariation,
    WeightDecay,
)
from impindiff.observe._sensors import Cells, CellValues, Sensors

__all__ = [
    "AbstractObservation",
    "AbstractOperator",
    "AbstractPenalty",
    "CellValues",
    "Cells",
    "DivergenceFree",
    "LineAverage",
    "Measured",
    "Sensors",
    "Smoothness",
    "TotalVariation",
    "VolumeAverage",
    "VolumeIntegral",
    "WeightDecay",
    "deviations_of",
    "measure",
    "misfit_residuals",
    "readings_shape",
    "relative_error",
    "squared_misfit",
    "misfit_scale",
]
