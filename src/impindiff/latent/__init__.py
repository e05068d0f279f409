"""Learned coefficients: parameters and neural fields."""

from impindiff.latent._field import (
    AbstractLatent,
    evaluate_latents,
    is_evaluated,
    is_latent,
    latent_values,
    latents_of,
    learned,
)
from impindiff.latent._parameter import Parameter
from impindiff.latent._siren import SineField

__all__ = [
    "AbstractLatent",
    "Parameter",
    "SineField",
    "evaluate_latents",
    "is_evaluated",
    "is_latent",
    "latent_values",
    "latents_of",
    "learned",
]
