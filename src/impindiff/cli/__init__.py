"""The commands."""

from impindiff.cli._main import main

__all__ = ["main"]
