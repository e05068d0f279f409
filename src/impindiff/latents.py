"""What can be learned: numbers, fields of time and position, closures of the state."""

from impindiff.coefficients import AbstractClosure, AbstractCoefficient, Closure, Corrected
from impindiff.latent import (
    AbstractLatent,
    CellField,
    ConvolutionalClosure,
    FilmField,
    HypernetworkField,
    Layers,
    LearnedSeries,
    NeuralClosure,
    Parameter,
    SeparableField,
    SineField,
    SpectralField,
    tabulate,
)
from impindiff.terms import FaceVelocity, StreamFunction

__all__ = [
    "AbstractClosure",
    "AbstractCoefficient",
    "AbstractLatent",
    "CellField",
    "Closure",
    "ConvolutionalClosure",
    "Corrected",
    "FaceVelocity",
    "FilmField",
    "HypernetworkField",
    "Layers",
    "LearnedSeries",
    "NeuralClosure",
    "Parameter",
    "SeparableField",
    "SineField",
    "SpectralField",
    "StreamFunction",
    "tabulate",
]
