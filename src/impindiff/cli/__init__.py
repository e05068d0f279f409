"""The commands."""

from impindiff.cli._app import app, main

__all__ = ["app", "main"]
