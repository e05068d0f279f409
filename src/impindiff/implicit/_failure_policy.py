"""What becomes of a derivative whose linear solve missed its tolerance. Never is it silent."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from impindiff._errors import NumericsError, warn_caller
from impindiff._types import Vector
from impindiff.linear import Outcome, Result

Place = tuple[str, Int[Array, ""] | None]

POLICIES = ("raise", "nan", "warn")


def hand_out(solution: Vector, outcome: Outcome, policy: str, kind: str, place: Place) -> Vector:
    """The solution, unless it failed and the policy says otherwise.

    Args:
        solution: of a tangent or an adjoint system.
        outcome: how it was solved.
        policy: one of `POLICIES`.
        kind: of system, for the message.
        place: what the root is called and its number, for the message.
    """
    good = outcome.converged
    if policy != "nan":
        noun, number = place
        number = jnp.array(-1) if number is None else number
        reported = (good, outcome.result, outcome.relative_residual, outcome.iterations, number)
        tell = _teller(policy, kind, noun)
        # Always true; without a use of the answer the compiler would leave the question out.
        answered = tell(*jax.lax.stop_gradient(reported))
        good = answered if policy == "warn" else answered & good
    return jax.tree.map(lambda leaf: jnp.where(good, leaf, jnp.nan), solution)


def _teller(policy: str, kind: str, noun: str):
    """Calls the host where anything failed: once for a whole batch, and not where all is well."""

    def tell_host(good, *reported):
        failed = ~np.asarray(good)
        if failed.any():
            first = np.unravel_index(np.argmax(failed), failed.shape)
            values = (np.broadcast_to(value, failed.shape)[first] for value in reported)
            many = f" ({failed.sum()} of {failed.size} samples failed)" if failed.size > 1 else ""
            message = _message(kind, noun, many, *values)
            if policy == "raise":
                raise NumericsError(message)
            warn_caller(message)
        return np.asarray(True)

    def ask(*reported):
        answer = jax.ShapeDtypeStruct((), jnp.bool_)
        return jax.lax.cond(
            jnp.all(reported[0]),
            lambda: jnp.array(True),
            lambda: jax.pure_callback(tell_host, answer, *reported),
        )

    tell = jax.custom_batching.custom_vmap(ask)

    @tell.def_vmap
    def _(axis_size, in_batched, *reported):
        whole = [
            value if batched else jnp.broadcast_to(value, (axis_size, *value.shape))
            for value, batched in zip(reported, in_batched, strict=True)
        ]
        return tell(*whole), False

    return tell


def _message(kind: str, noun: str, many: str, result, residual, iterations, number) -> str:
    where = f" of {noun} {int(number) + 1}" if number >= 0 else ""
    reason = Result(int(result))
    return (
        f"the {kind} solve{where} ended with '{reason.label}' after {int(iterations)} iterations "
        f"at relative residual {float(residual):.2g}{many}, so the derivative is not to be "
        f"trusted: {reason.explanation} The solver is ImplicitAdjoint.linear; on_failure='nan' or "
        "'warn' goes on instead."
    )
