"""Settings: numbers that are known for each sample, as variables with the dimension `sample`."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.data._variables import check_numeric, listed, source_of


def settings_of(
    dataset: xr.Dataset, names: Sequence[str], samples: Sequence[int]
) -> dict[str, np.ndarray]:
    """The settings of some samples, in the data's dtype.

    Args:
        dataset: a dataset that holds them.
        names: of the settings.
        samples: positions along `sample`, as from `select_samples`.

    Shapes: returns `(sample,)` for each.
    Raises: InputError for a setting that is missing, has another dimension, or is not finite.
    """
    source = source_of(dataset)
    if missing := [name for name in names if name not in dataset.variables]:
        raise InputError(
            f"{source}: there is no setting {listed(missing)}, which the system needs for each "
            f"sample; it holds {listed(dataset.data_vars)}. Add it: "
            f"dataset.assign({missing[0]}=('sample', [...]))"
        )
    found = {}
    for name in names:
        array = dataset[name]
        if not is_setting(array):
            raise InputError(
                f"{source}: the setting {name!r} has the dimensions ({listed(array.dims)}): it "
                "must have 'sample' alone, one number for each."
            )
        check_numeric(array, f"{source}: setting {name!r}")
        found[name] = array.values[list(samples)]
        if len(unknown := np.flatnonzero(~np.isfinite(found[name]))):
            raise InputError(
                f"{source}: the setting {name!r} of sample {samples[unknown[0]]} is "
                f"{found[name][unknown[0]]}: it must be known. Give it, or leave the sample out."
            )
    return found


def is_setting(variable: xr.DataArray) -> bool:
    """Whether a variable is one number for each sample."""
    return variable.dims == ("sample",)
