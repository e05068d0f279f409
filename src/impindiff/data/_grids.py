"""The grid under a field: read from the coordinates, or held against the one asked for."""

import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.data._variables import SPACE_AXES, coordinate_of, field_of, listed, source_of
from impindiff.grid import Axis, Grid, round_off

PERIODIC, BOUNDED = "periodic", "bounded"


def grid_of(dataset: xr.Dataset, field: str, source: str | None = None) -> Grid:
    """The grid a field lies on, from the coordinates of its space axes.

    The attribute `boundary` says which axes are periodic: a word for all, or one for each in order;
    without it none is. A coordinate whose attribute `bounds` names a variable of the lower and
    upper face of each cell, as in the CF conventions, may be unevenly spaced, or of one cell.

    Datasets hold neither obstacles nor which coordinates these are. Of data from a grid that had
    some this is the cartesian grid without: `Grid(grid_of(...).axes, solid=block)` puts obstacles
    back, `Grid(grid_of(...).axes, "spherical")` the centre.

    Args:
        dataset: a dataset that holds the field.
        field: the variable's name.
        source: what messages call the dataset; by default the file it came from.

    Raises: InputError if the field is not in the layout or has no space axes, a coordinate is
        missing, does not increase, is uneven or of one cell without bounds, or lies outside of the
        cells between its bounds, or the dataset's boundary is none of these words.
    """
    source = source or source_of(dataset)
    names = _axes_of(dataset, field, source)
    if not names:
        raise InputError(
            f"{source}: {field!r} has no space axes and lies on no grid; give its system none: "
            "System(None, ...)"
        )
    rings = _periodic(dataset, names, source)
    try:
        return Grid([_axis(dataset, *pair, source) for pair in zip(names, rings, strict=True)])
    except InputError as error:
        said = str(error)
        raise InputError(said if said.startswith(source) else f"{source}: {said}") from error


def boundary_of(grid: Grid) -> str:
    """What the attribute `boundary` says of a grid."""
    words = [BOUNDED if grid.has_end(k, 1) else PERIODIC for k in range(grid.num_axes)]
    return words[0] if len(set(words)) == 1 else " ".join(words)


def bounds_name(axis: str) -> str:
    """The variable that holds the faces of an axis."""
    return f"{axis}_bounds"


def _axes_of(dataset: xr.Dataset, field: str, source: str) -> list[str]:
    """The names of a field's space axes, which may be none."""
    return [str(dim) for dim in field_of(dataset, field, source).dims[2:]]


def _periodic(dataset: xr.Dataset, names: list[str], source: str) -> list[bool]:
    boundary = str(dataset.attrs.get("boundary", BOUNDED))
    words = boundary.lower().split()
    each = words * len(names) if len(words) == 1 else words
    if len(each) != len(names) or not set(each) <= {PERIODIC, BOUNDED}:
        raise InputError(
            f"{source}: the attribute boundary is {boundary!r}; it must be 'periodic', 'bounded', "
            f"or one of these for each of the axes {listed(names)}, separated by blanks."
        )
    return [word == PERIODIC for word in each]


def _axis(dataset: xr.Dataset, name: str, periodic: bool, source: str) -> Axis:
    centres = coordinate_of(dataset, name, source)
    bounds = _bounds_of(dataset, name)
    if bounds is None and centres.size == 1:
        raise InputError(
            f"coordinate {name!r} has one position, which does not say how wide its cell is: give "
            f"the cell's two faces, dataset.assign_coords({bounds_name(name)}=(({name!r}, "
            f"'bounds'), [[lower, upper]])) and dataset[{name!r}].attrs['bounds'] = "
            f"{bounds_name(name)!r}; give the grid, to_dataset(grid, ...); or leave the axis out, "
            f"dataset.isel({name}=0, drop=True)."
        )
    if bounds is None:
        return Axis.from_centres(name, centres, periodic=periodic)
    if bounds not in dataset.variables:
        raise InputError(
            f"coordinate {name!r} has its bounds in {bounds!r}, which the dataset does not hold."
        )
    faces = np.asarray(dataset[bounds].values, np.float64)
    if faces.shape != (centres.size, 2) or not _are_cells(faces):
        raise InputError(
            f"{bounds!r} must hold the lower and upper face of each of the {centres.size} cells "
            f"along {name!r}, each cell beginning where the one before ends; its shape is "
            f"{faces.shape}."
        )
    _check_centres(name, centres.astype(np.float64), bounds, faces)
    return Axis.from_faces(name, [*faces[:, 0], faces[-1, 1]], periodic=periodic)


def _are_cells(faces: np.ndarray) -> bool:
    """Whether each cell begins where the one before ends, as far as faces are rounded."""
    return bool(np.all(np.abs(faces[1:, 0] - faces[:-1, 1]) <= _slack(faces)))


def _check_centres(name: str, centres: np.ndarray, bounds: str, faces: np.ndarray) -> None:
    """Refuse centres outside of their cells.

    A coordinate that is put into another unit, or moved, leaves its bounds as they were.
    """
    slack = _slack(faces)
    outside = (centres < faces[:, 0] - slack) | (centres > faces[:, 1] + slack)
    if outside.any():
        at = int(np.argmax(outside))
        raise InputError(
            f"coordinate {name!r} at entry {at}, {centres[at]:.10g}, lies outside of its cell, "
            f"from {faces[at, 0]:.10g} to {faces[at, 1]:.10g} by {bounds!r}: put both into one "
            f"unit and place, dataset.assign_coords({bounds}=...)."
        )


def _slack(faces: np.ndarray) -> float:
    """How far two numbers may lie apart that are one face: round-off, and never most of a cell."""
    narrowest = np.abs(faces[:, 1] - faces[:, 0]).min()
    return max(1e-3 * narrowest, min(round_off(faces), 0.25 * narrowest))


def check_grid(dataset: xr.Dataset, field: str, grid: Grid | None) -> None:
    """Refuse data on another grid than the one asked for, or on one where none is.

    What data leave out, the grid says: whether axes are periodic, and where the faces between
    uneven cells lie.

    Raises: InputError that sets the two side by side, axis by axis.
    """
    if grid is None:
        if axes := _axes_of(dataset, field, source_of(dataset)):
            raise InputError(
                f"{source_of(dataset)}: {field!r} lies on a grid, along {listed(axes)}, but the "
                "system has none: give it the one of the data, System(grid_of(...), ...), or "
                "choose a place: dataset.isel(x=0)"
            )
        return
    if tuple(_axes_of(dataset, field, source_of(dataset))) == grid.names and _fits(dataset, grid):
        return
    found = grid_of(dataset, field)
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


def _fits(dataset: xr.Dataset, grid: Grid) -> bool:
    source, rings = source_of(dataset), [axis.periodic for axis in grid.axes]
    said = _periodic(dataset, list(grid.names), source) if "boundary" in dataset.attrs else rings
    return said == rings and all(_agree(dataset, axis, source) for axis in grid.axes)


def _agree(dataset: xr.Dataset, axis: Axis, source: str) -> bool:
    found, wanted = coordinate_of(dataset, axis.name, source), axis.centres
    if _bounds_of(dataset, axis.name) is not None:
        found, wanted = _axis(dataset, axis.name, axis.periodic, source).faces, axis.faces
    # Coordinates are rounded: a thousandth of a cell is agreement.
    slack = 1e-3 * axis.widths.min()
    return found.shape == wanted.shape and bool(np.all(np.abs(found - wanted) < slack))


def _bounds_of(dataset: xr.Dataset, name: str) -> str | None:
    return dataset[name].attrs.get("bounds", dataset[name].encoding.get("bounds"))


def _spelled(grid: Grid, name: str) -> str:
    for axis in grid.axes:
        if axis.name == name:
            uneven = "" if axis.is_uniform else " uneven"
            ends = "" if axis.periodic else f" ({BOUNDED})"
            return f"{axis.num_cells}{uneven} cells on [{axis.lower:.10g}, {axis.upper:.10g}]{ends}"
    return "no such axis"
