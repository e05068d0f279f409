"""Tests of commands begin with a finished one."""

from finished_run import finished, finished_once

__all__ = ["finished", "finished_once"]
