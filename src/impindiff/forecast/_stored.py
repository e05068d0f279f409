"""A store that is to be continued: it must hold a forecast by the system that goes on with it."""

from pathlib import Path

import jax
import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.data import check_grid
from impindiff.forecast._initial_condition import TITLE, InitialCondition
from impindiff.systems import System


def check_zarr(path: Path) -> None:
    """Refuse a path that is no zarr store.

    Raises: InputError.
    """
    if path.suffix.lower() != ".zarr":
        raise InputError(
            f"{path}: is no .zarr store, and only these are written in pieces and can be added to. "
            "Forecast to one; a short forecast also goes into a .nc file: "
            "save_dataset(predict(...), path)"
        )


def beginning_at_end(last: xr.Dataset, system: System, path: Path) -> InitialCondition:
    """The last state of a store, if it holds a forecast by this system.

    Args:
        last: the store, at its last time.
        system: goes on with it.
        path: of the store.

    Raises: InputError for a store of something else.
    """
    if last.attrs.get("title") != TITLE:
        raise InputError(
            f"{path}: is no forecast by impindiff, so nothing is added to it. Forecast from it to "
            "another file."
        )
    held = {str(name) for name, of in last.data_vars.items() if of.dims[:2] == ("sample", "time")}
    if held != {*system.fields, *system.integrals}:
        raise InputError(
            f"{path}: holds a forecast of {sorted(held)}, but the system's fields are "
            f"{sorted(system.fields)}. Forecast to another file."
        )
    for field in system.fields:
        check_grid(last, field, system.grid)
    dtype = last[system.fields[0]].dtype
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise InputError(
            f"{path}: holds {dtype}, but computations are in single precision. Continue it with a "
            "run of its precision; in Python: jax.config.update('jax_enable_x64', True)"
        )
    begin = InitialCondition.of(
        system, last, float(last["time"][0]), None, dtype, is_under_way=True
    )
    tables = {name: t.values for name, t in begin.tables.items() if name in last.data_vars}
    learned = begin.latents | begin.varying_latents(np.array([begin.time])) | tables
    for name, value in learned.items():
        known = last[name].values if name in last.data_vars else np.full(value.shape, np.nan)
        if not np.allclose(known, value, rtol=0, atol=1e-4 * np.abs(value).max()):
            raise InputError(
                f"{path}: holds a forecast with another {name!r} than the system has now. Continue "
                "it with the system or run that it was made with, or forecast to another file."
            )
    return begin
