"""Instruments, penalties on what is learned, and measures of error."""

from impindiff.observe import (
    AbstractObservation,
    AbstractOperator,
    AbstractPenalty,
    Cells,
    DivergenceFree,
    LineAverage,
    Measured,
    Sensors,
    Smoothness,
    TotalVariation,
    VolumeAverage,
    VolumeIntegral,
    WeightDecay,
    measure,
)

__all__ = [
    "AbstractObservation",
    "AbstractOperator",
    "AbstractPenalty",
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
    "measure",
]
