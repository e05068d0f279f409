"""Learned closures as tables: what they say, in files that are read without the system."""

from collections.abc import Callable, Mapping

import xarray as xr

from impindiff.latent import NeuralClosure, latents_of, tabulate
from impindiff.systems import System

# Points along each input, by how many inputs there are; of more than two no table is made.
_POINTS = {1: 201, 2: 41}


def closure_tables(
    system: System, attributes: Callable[[str], Mapping[str, str]]
) -> dict[str, xr.DataArray]:
    """The learned closures of a system that have one or two inputs, by name.

    Over the ranges that the inputs are expected in, with a dimension for each: `NAME_INPUT`.

    Args:
        system: the equations.
        attributes: units and a long name of whatever has a name.
    """
    learned = (name for latent in latents_of(system) for name in latent.names)
    taken = {*system.fields, *system.settings, *learned}
    tables: dict[str, xr.DataArray] = {}
    for closure in latents_of(system):
        if not isinstance(closure, NeuralClosure) or len(closure.arguments) not in _POINTS:
            continue
        values = tabulate(closure, num=_POINTS[len(closure.arguments)])
        for name in closure.names:
            dims = {argument: f"{name}_{argument}" for argument in closure.arguments}
            for argument in dims:
                while dims[argument] in taken:
                    dims[argument] += "_"
            coords = {dims[a]: (dims[a], values[a], attributes(a)) for a in closure.arguments}
            tables[name] = xr.DataArray(
                values[name], coords, tuple(dims.values()), attrs=dict(attributes(name))
            )
    return tables


def is_table(variable: xr.DataArray) -> bool:
    """Whether a variable of a forecast is the table of a closure."""
    return bool(variable.dims) and all(
        str(dim).startswith(f"{variable.name}_") for dim in variable.dims
    )


def truth_at(table: xr.DataArray, truth: xr.DataArray) -> xr.DataArray | None:
    """A closure's truth at the points of its table, linearly between its own, NaN beyond them.

    None for a truth of other dimensions than the table's, or without their coordinates.
    """
    if truth.dims != table.dims or not set(truth.dims) <= set(truth.coords):
        return None
    return truth.interp({dim: table[dim] for dim in table.dims}, method="linear")
