"""Comparing predictions with observations: losses and metrics."""

from impindiff.observe._misfit import relative_error, squared_misfit

__all__ = ["relative_error", "squared_misfit"]
