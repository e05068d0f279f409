"""Learned coefficients: numbers, fields, and functions of the state."""

from impindiff.latent._convolutional import ConvolutionalClosure
from impindiff.latent._field import (
    AbstractLatent,
    Proportional,
    is_latent,
    latent_values,
    latents_of,
    learned,
)
from impindiff.latent._film import FilmField
from impindiff.latent._hypernetwork import HypernetworkField
from impindiff.latent._learned_series import LearnedSeries
from impindiff.latent._neural_closure import NeuralClosure
from impindiff.latent._parameter import CellField, Parameter
from impindiff.latent._separable import SeparableField
from impindiff.latent._sine_network import Layers
from impindiff.latent._siren import SineField
from impindiff.latent._spectral import SpectralField
from impindiff.latent._tabulate import tabulate

__all__ = [
    "AbstractLatent",
    "CellField",
    "ConvolutionalClosure",
    "FilmField",
    "HypernetworkField",
    "Layers",
    "LearnedSeries",
    "NeuralClosure",
    "Parameter",
    "Proportional",
    "SeparableField",
    "SineField",
    "SpectralField",
    "is_latent",
    "latent_values",
    "latents_of",
    "learned",
    "tabulate",
]
