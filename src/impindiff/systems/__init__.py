"""Systems of equations, put together from terms."""

from impindiff.systems._advection_diffusion import advection_diffusion
from impindiff.systems._ensemble import Ensemble, Spread
from impindiff.systems._system import AffineTendency, PreparedSystem, System

__all__ = [
    "AffineTendency",
    "Ensemble",
    "PreparedSystem",
    "Spread",
    "System",
    "advection_diffusion",
]
