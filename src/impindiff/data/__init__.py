"""Datasets: netCDF-4 or zarr files with dimensions `sample`, `time` and the space axes."""

from impindiff.data._append import append_dataset
from impindiff.data._arrays import (
    check_observed,
    initial_fields,
    initial_state,
    is_sample_parameter,
    readings,
    sample_parameters_of,
    time_slack,
    times_of,
)
from impindiff.data._as_dataset import (
    as_dataset,
    check_is_dataset,
    has_dates,
    in_precision,
    precision_of,
    with_dates,
    without_dates,
)
from impindiff.data._files import file_sha256, holder_note, holder_of, locked, replace_file, sweep
from impindiff.data._grids import check_grid, grid_of
from impindiff.data._layout import check_dataset, check_once, check_units, check_values
from impindiff.data._open import BEGUN, begun_of, is_later, open_dataset
from impindiff.data._save import check_storable, check_writable, save_dataset
from impindiff.data._select import Start, instant, select_samples, select_times, start_of
from impindiff.data._to_dataset import to_dataset
from impindiff.data._variables import SPACE_AXES, check_numeric, source_of

__all__ = [
    "BEGUN",
    "Start",
    "append_dataset",
    "as_dataset",
    "begun_of",
    "check_dataset",
    "check_grid",
    "check_is_dataset",
    "check_numeric",
    "check_observed",
    "check_once",
    "check_storable",
    "check_units",
    "check_values",
    "check_writable",
    "file_sha256",
    "grid_of",
    "has_dates",
    "holder_note",
    "holder_of",
    "in_precision",
    "initial_fields",
    "initial_state",
    "instant",
    "is_later",
    "is_sample_parameter",
    "locked",
    "open_dataset",
    "precision_of",
    "readings",
    "replace_file",
    "save_dataset",
    "select_samples",
    "select_times",
    "sample_parameters_of",
    "SPACE_AXES",
    "source_of",
    "start_of",
    "sweep",
    "time_slack",
    "times_of",
    "to_dataset",
    "with_dates",
    "without_dates",
]
