"""Systems of equations, put together from terms."""

from impindiff.systems._advection_diffusion import advection_diffusion
from impindiff.systems._affine_tendency import AffineTendency
from impindiff.systems._reaction import Reaction
from impindiff.systems._state_tendency import StateTendency
from impindiff.systems._system import PreparedSystem, System

__all__ = [
    "AffineTendency",
    "PreparedSystem",
    "Reaction",
    "StateTendency",
    "System",
    "advection_diffusion",
]
