"""A velocity that is given where it carries something: at the faces."""

from typing import Any, final

import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.grid import AbstractCoefficient, Function, Grid, as_coefficients, is_coefficient


@final
class FaceVelocity(AbstractCoefficient):
    r"""Normal velocities at faces, for `Advection`.

    Args:
        components: one for each axis, the velocity along it at all faces across it in order, the
            outer ones included: an array of the grid's shape with one more along that axis. On a
            periodic axis the last face is the first, and is left out. Also a number, or a
            function of `t` and the coordinates of the faces' centres.

    Velocities that flow solvers give, or differences of a stream function at the corners, fulfil
    the equation of continuity on the faces: a uniform field then stays uniform to round-off. So do
    walls, where the velocity is zero.

    Raises: InputError, when evaluated, for another number of components or other shapes.
    """

    components: tuple[Any, ...]

    def __init__(self, *components: Any) -> None:
        self.components = as_coefficients(components)

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return all(part.is_steady for part in self.components if is_coefficient(part))

    def evaluate(self, grid: Grid, time: Scalar | None = None) -> tuple[Float[Array, "..."], ...]:
        """An array of all faces for each axis."""
        if len(self.components) != grid.num_axes:
            raise InputError(
                f"FaceVelocity has {len(self.components)} components, but the grid has "
                f"{grid.num_axes} axes ({', '.join(grid.names)}): give one for each."
            )

        def along(axis: int, part: Any) -> Float[Array, "..."]:
            shape = list(grid.shape)
            shape[axis] += not grid.axes[axis].periodic
            if isinstance(part, Function):
                index = tuple(slice(count) for count in shape)
                centres = [at[index] for at in grid.face_centres(axis)]
                part = part.at(time, dict(zip(grid.names, centres, strict=True)))
            elif is_coefficient(part):
                part = part.evaluate(grid, time)
            if jnp.shape(part) not in ((), tuple(shape)):
                raise InputError(
                    f"FaceVelocity has along {grid.axes[axis].name!r} an array of shape "
                    f"{jnp.shape(part)}: on a grid of shape {grid.shape} it must be one number or "
                    f"of shape {tuple(shape)}, a value for each face across that axis."
                )
            return jnp.broadcast_to(part, shape)

        return tuple(along(axis, part) for axis, part in enumerate(self.components))
