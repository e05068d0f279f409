r"""Whether a function of an array is affine in it, cell by cell: $f(u)_i = a_i u_i + s_i$.

Read off the program that JAX traces of the function, and not from values: $u\,u$ or
$\max(u, 0)$ may look affine wherever one happens to look. Of each operation on something that
depends on $u$ it is known that it keeps the form, or the answer is no. So a function that is
affine in truth may be refused ($u^2 / u$), and none that is not is ever accepted.
"""

import enum
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array, Float, PyTree


class _Form(enum.IntEnum):
    """What an intermediate result is of the argument; a combination has the worst form."""

    INDEPENDENT = 0  # does not depend on it
    AFFINE = 1  # is affine in it, and has its shape
    OTHER = 2


_SUMS = ("add", "sub", "add_any")
_UNCHANGED = ("neg", "copy", "copy_p")
_RESHAPED = ("broadcast_in_dim", "reshape")
# Not the custom derivatives: their rules may differ from what the function does.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2")


def is_affine_in(
    function: Callable[..., Float[Array, "..."]],
    argument: jax.ShapeDtypeStruct,
    *others: PyTree[jax.ShapeDtypeStruct],
) -> bool:
    """Whether a function is known to be affine in its first argument, cell by cell.

    Args:
        function: may close over traced arrays.
        argument: shape and precision of that.
        others: shapes of further arguments, for all values of which the answer holds.
    """
    traced = jax.make_jaxpr(function)(argument, *others).jaxpr
    forms = [_Form.AFFINE] + [_Form.INDEPENDENT] * (len(traced.invars) - 1)
    return all(form < _Form.OTHER for form in _through(traced, forms))


def _through(jaxpr: core.Jaxpr, forms: list[_Form]) -> list[_Form]:
    """The forms of a program's results, from those of its arguments."""
    known = dict(zip(jaxpr.invars, forms, strict=True))

    def form_of(atom: core.Var | core.Literal) -> _Form:
        return (
            _Form.INDEPENDENT
            if isinstance(atom, core.Literal)
            else known.get(atom, _Form.INDEPENDENT)
        )

    for equation in jaxpr.eqns:
        known.update(
            zip(
                equation.outvars,
                _after(equation, [form_of(atom) for atom in equation.invars]),
                strict=True,
            )
        )
    return [form_of(atom) for atom in jaxpr.outvars]


def _after(equation: core.JaxprEqn, forms: list[_Form]) -> list[_Form]:
    """The forms of what one operation returns."""
    worst = max(forms, default=_Form.INDEPENDENT)
    if worst == _Form.INDEPENDENT:
        return [worst] * len(equation.outvars)
    if equation.primitive.name in _CALLS:
        inner: Any = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        return _through(getattr(inner, "jaxpr", inner), forms)
    if worst == _Form.AFFINE and _keeps_form(equation, forms):
        return [worst]
    return [_Form.OTHER] * len(equation.outvars)


def _keeps_form(equation: core.JaxprEqn, forms: list[_Form]) -> bool:
    """Whether what is affine in the argument is so after an operation."""
    name, params = equation.primitive.name, equation.params
    if name in _SUMS or name in _UNCHANGED:
        return True
    if name == "mul":
        return _Form.INDEPENDENT in forms
    if name == "div":
        return forms[1] == _Form.INDEPENDENT
    if name == "select_n":
        return forms[0] == _Form.INDEPENDENT
    if name == "integer_pow":
        return params["y"] == 1
    before: Any = equation.invars[0].aval
    after: Any = equation.outvars[0].aval
    if name in _RESHAPED:
        # A reshape that is told an order of the axes moves values between cells.
        return before.shape == after.shape and params.get("dimensions") is None
    if name == "convert_element_type":
        is_real = jnp.issubdtype(after.dtype, jnp.floating)
        return is_real and jnp.finfo(after.dtype).bits >= jnp.finfo(before.dtype).bits
    return False
