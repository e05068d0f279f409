"""Coefficients that are evaluated before they are used: latents, closures, corrected priors."""

from impindiff.latent._closure import Closure, Corrected, as_closures
from impindiff.latent._evaluate import (
    AbstractClosure,
    Values,
    coefficients_of,
    depends_on,
    evaluate_coefficients,
)
from impindiff.latent._field import (
    AbstractLatent,
    is_latent,
    latent_values,
    latents_of,
    learned,
)
from impindiff.latent._neural_closure import NeuralClosure
from impindiff.latent._parameter import CellField, Parameter
from impindiff.latent._siren import SineField
from impindiff.latent._tabulate import tabulate

__all__ = [
    "AbstractClosure",
    "AbstractLatent",
    "CellField",
    "Closure",
    "Corrected",
    "NeuralClosure",
    "Parameter",
    "SineField",
    "Values",
    "as_closures",
    "coefficients_of",
    "depends_on",
    "evaluate_coefficients",
    "is_latent",
    "latent_values",
    "latents_of",
    "learned",
    "tabulate",
]
