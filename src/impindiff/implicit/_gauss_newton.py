r"""Gauss-Newton products: the curvature of a misfit, without a second derivative.

For a misfit $\tfrac12 \lVert f(p) - d \rVert_W^2$ the Hessian without the term that the misfit
itself scales is $H = J^\top W J$, $J = \partial f/\partial p$. It is symmetric, never indefinite,
and a product with it costs one forward and one adjoint solve for every root inside $f$.
"""

from collections.abc import Callable

import jax
from jaxtyping import PyTree


def gauss_newton_operator(
    function: Callable[[PyTree], PyTree],
    point: PyTree,
    weight: Callable[[PyTree], PyTree] | None = None,
) -> Callable[[PyTree], PyTree]:
    r"""$v \mapsto J^\top W J\,v$ at a point; the function is evaluated once, for all products.

    Args:
        function: $f$, from parameters to what is observed; both PyTrees of real arrays.
        point: $p$.
        weight: $W$, a symmetric linear map of what is observed; the identity by default.

    Hand it to `CG` for a Gauss-Newton step, or to a Lanczos method for what the data determine.
    Reference: Nocedal & Wright, Numerical Optimization, section 10.3.
    """
    _, push = jax.linearize(function, point)
    pull = jax.linear_transpose(push, point)

    def product(vector: PyTree) -> PyTree:
        seen = push(vector)
        (found,) = pull(seen if weight is None else weight(seen))
        return found

    return product


def gauss_newton_product(
    function: Callable[[PyTree], PyTree],
    point: PyTree,
    vector: PyTree,
    weight: Callable[[PyTree], PyTree] | None = None,
) -> PyTree:
    r"""One product $J^\top W J\,v$; for several, see `gauss_newton_operator`."""
    return gauss_newton_operator(function, point, weight)(vector)
