"""A velocity that is given where it carries something: at the faces."""

from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Scalar, as_array, as_real
from impindiff.coefficients import (
    AbstractClosure,
    AbstractCoefficient,
    Closure,
    Values,
    evaluate_coefficients,
)
from impindiff.grid import Grid
from impindiff.terms._term import check_coefficient


@final
class FaceVelocity(AbstractClosure):
    r"""Normal velocities at faces, for `Advection`.

    Args:
        components: one for each axis, the velocity along it at all faces across it in order, the
            outer ones included: an array of the grid's shape with one more along that axis. On a
            periodic axis the last face is the first, and is left out. Also a number, a `Parameter`,
            or a function of `t` and the coordinates, which are those of the faces' centres.

    Velocities that flow solvers give, or differences of a stream function at the corners, fulfil
    the equation of continuity on the faces: a uniform field then stays uniform to round-off. So do
    walls, where the velocity is zero.

    Raises: InputError for a learned field, which has values in cells; when evaluated, for another
        number of components, other shapes, or a function of what lives in cells, as fields do.
    """

    components: tuple[Any, ...]
    # Apart from the components, for these would be evaluated in the cells.
    functions: tuple[Closure | None, ...] = eqx.field(static=True)
    arguments: tuple[str, ...] = eqx.field(static=True)
    is_local: ClassVar[bool] = False

    def __init__(self, *components: Any) -> None:
        for number, component in enumerate(components):
            check_coefficient(component, f"component {number} of FaceVelocity")
            _check_not_in_cells(component)
        plain = [callable(c) and not isinstance(c, eqx.Module | type) for c in components]
        pairs = list(zip(plain, components, strict=True))
        self.components = tuple(None if is_plain else as_real(part) for is_plain, part in pairs)
        self.functions = tuple(Closure(part) if is_plain else None for is_plain, part in pairs)
        names = [name for part in self.functions if part for name in part.arguments]
        self.arguments = tuple(dict.fromkeys(names))

    @property
    def label(self) -> str:
        """See `AbstractClosure.label`."""
        return f"FaceVelocity({', '.join(self.arguments)})"

    def evaluate(
        self, grid: Grid | None, time: Scalar | None = None, values: Values | None = None
    ) -> tuple[Float[Array, "..."], ...]:
        """An array of all faces for each axis."""
        names = () if grid is None else grid.names
        if grid is None or len(self.components) != len(names):
            raise InputError(
                f"FaceVelocity has {len(self.components)} components, but the grid has "
                f"{len(names)} axes ({', '.join(names)}): give one for each."
            )
        known = {name: (values or {})[name] for name in self.arguments}
        in_cells = [name for name in known if name not in names and jnp.ndim(known[name])]
        if in_cells:
            raise InputError(
                f"{self.label} is a function of {in_cells[0]!r}, which has a value for each cell "
                "and none at faces: it may be one of the time, the position and single numbers."
            )

        def along(axis: int) -> Float[Array, "..."]:
            shape = list(grid.shape)
            shape[axis] += not grid.axes[axis].periodic
            part, function = self.components[axis], self.functions[axis]
            if function:
                index = tuple(slice(count) for count in shape)
                faces = [jnp.asarray(at[index]) for at in grid.face_centres(axis)]
                placed = known | dict(zip(names, faces, strict=True))
                part = function.evaluate(None, time, placed)
            if jnp.shape(part) not in ((), tuple(shape)):
                raise InputError(
                    f"FaceVelocity has along {names[axis]!r} an array of shape "
                    f"{jnp.shape(part)}: on a grid of shape {grid.shape} it must be one number or "
                    f"of shape {tuple(shape)}, a value for each face across that axis."
                )
            return jnp.broadcast_to(as_array(part), shape)

        return tuple(along(axis) for axis in range(grid.num_axes))


def _check_not_in_cells(component: Any) -> None:
    """Refuse a field in cells: where cells are as many as faces, its shape would not tell."""
    if not isinstance(component, AbstractCoefficient) or isinstance(component, AbstractClosure):
        return
    if _is_one_number(component):
        return
    name = type(component).__name__
    raise InputError(
        f"FaceVelocity has a {name} for a component: that has values in cells and none at faces. "
        f"Give it to the advection itself, Advection({name}(...)), which takes it to the faces; a "
        "component here is a number, an array of all faces across its axis, a Parameter, or a "
        "function of the time and the position."
    )


def _is_one_number(component: AbstractCoefficient) -> bool:
    try:
        value = evaluate_coefficients(component, None, jnp.zeros(()))
    except InputError:
        return False
    # What is a function of other things besides tells when these are known.
    return isinstance(value, AbstractCoefficient) or jnp.ndim(value) == 0
