"""Systems of equations, put together from terms."""

from impindiff.systems._advection_diffusion import advection_diffusion
from impindiff.systems._system import AffineTendency, PreparedSystem, System

__all__ = ["AffineTendency", "PreparedSystem", "System", "advection_diffusion"]
