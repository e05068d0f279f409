"""Comparing predictions with observations: losses and metrics."""

from impindiff.observe._misfit import relative_error, squared_misfit, squared_scale

__all__ = ["relative_error", "squared_misfit", "squared_scale"]
