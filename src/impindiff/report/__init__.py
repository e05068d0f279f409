"""The report: a run folder told in one HTML page that needs nothing but a browser."""

from impindiff.report._baselines import errors_of_no_change
from impindiff.report._format import spans
from impindiff.report._page import write_report

__all__ = ["errors_of_no_change", "spans", "write_report"]
