"""The grid under a field: read from the coordinates, or held against the one asked for."""

import xarray as xr

from impindiff._errors import InputError
from impindiff.data._variables import SPACE_AXES, coordinate_of, field_of, listed, source_of
from impindiff.grid import Axis, Grid


def grid_of(dataset: xr.Dataset, field: str, source: str | None = None) -> Grid:
    """The grid a field lies on, from the coordinates of its space axes.

    Args:
        dataset: a dataset that holds the field.
        field: the variable's name.
        source: what messages call the dataset; by default the file it came from.

    Raises: InputError if the field is not in the layout, a coordinate is missing, does not
        increase or is not uniform, or the dataset's boundary is not periodic.
    """
    source = source or source_of(dataset)
    boundary = str(dataset.attrs.get("boundary", "periodic"))
    if boundary.strip().lower() != "periodic":
        raise InputError(
            f"{source}: the attribute boundary is {boundary!r}; only 'periodic' is supported."
        )
    names = [str(dim) for dim in field_of(dataset, field, source).dims[2:]]
    centres = {name: coordinate_of(dataset, name, source) for name in names}
    try:
        return Grid(tuple(Axis.from_centres(name, at) for name, at in centres.items()))
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def check_grid(dataset: xr.Dataset, field: str, grid: Grid) -> None:
    """Refuse data on another grid than the one asked for.

    Raises: InputError that sets the two side by side, axis by axis.
    """
    found = grid_of(dataset, field)
    if found.names == grid.names and all(map(_agree, found.axes, grid.axes)):
        return
    order = f" (in the data {listed(found.names)}, asked for {listed(grid.names)})"
    rows = [
        f"  {name}: in the data {_spelled(found, name)}, asked for {_spelled(grid, name)}"
        for name in SPACE_AXES
        if name in (*found.names, *grid.names)
    ]
    raise InputError(
        f"{source_of(dataset)}: {field!r} does not lie on the grid asked for"
        f"{order if found.names != grid.names else ''}:\n"
        + "\n".join(rows)
        + "\nTake the grid from the data, or interpolate the data."
    )


def _agree(left: Axis, right: Axis) -> bool:
    # Bounds read from rounded centres carry the rounding: a thousandth of a cell is agreement.
    slack = 1e-3 * left.cell_width
    return (
        left.num_cells == right.num_cells
        and abs(left.lower - right.lower) < slack
        and abs(left.upper - right.upper) < slack
    )


def _spelled(grid: Grid, name: str) -> str:
    for axis in grid.axes:
        if axis.name == name:
            return f"{axis.num_cells} cells on [{axis.lower:.10g}, {axis.upper:.10g}]"
    return "no such axis"
