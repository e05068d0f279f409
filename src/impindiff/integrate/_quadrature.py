r"""Integrals over time, $\dot s = r(t, u)$: what no other field depends on.

A state without them costs nothing. In one that has them they go along with the fields: what a solve
leaves over would else be missing in their balance, since Newton's method conserves what is linear
in the unknowns, and only that. What its linear solves leave over is missing all the same, so these
states are solved for more digits. Preconditioners see the fields alone. Where a step is one linear
solve, $r$ need not be affine: there they follow from the solved stages.
"""

from collections.abc import Mapping
from typing import ClassVar, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff._types import AbstractTendency, Scalar, State
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.linear import AbstractInverse


def split_integrals(dynamics: AbstractDynamics, state: State) -> tuple[State, State]:
    """The fields of a state, and its integrals."""
    integrals = {name: state[name] for name in dynamics.integrals if name in state}
    return {field: u for field, u in state.items() if field not in integrals}, integrals


def split_unknowns(dynamics: AbstractDynamics, state: State) -> tuple[State, State]:
    """What an implicit step solves for, and the integrals that follow from it."""
    return split_integrals(dynamics, state) if dynamics.is_affine else (state, {})


def add_integrals(
    dynamics: AbstractDynamics, integrals: State, weight: Scalar, time: Scalar, state: State
) -> State:
    r"""$s + w\,r(t, u)$.

    Args:
        dynamics: the system.
        integrals: $s$, of those that follow from a solved stage.
        weight: $w$.
        time: $t$.
        state: $u$, the fields.
    """
    rates = integral_rates(dynamics, integrals, time, state)
    return jax.tree.map(lambda s, r: s + weight * r, integrals, rates)


def integral_rates(
    dynamics: AbstractDynamics, integrals: State, time: Scalar, state: State
) -> State:
    r"""$r(t, u)$, in the shapes of what it is integrated to; see `add_integrals`."""
    if not integrals:
        return integrals

    # `checkpoint`: the state is kept for the backward pass anyway, and is all that is needed.
    @jax.checkpoint
    def evaluate(rates: AbstractTendency, state: State) -> State:
        return broadcast_rates(rates(state), integrals)

    return evaluate(dynamics.integrands(time, tuple(integrals)), state)


def broadcast_rates(rates: State, integrals: State) -> State:
    """Rates in the shapes of what they are integrated to.

    Raises: InputError for an integral that is one number, or of another shape, and its rate is not.
    """
    for name, rate in rates.items():
        if rate.shape not in ((), integrals[name].shape):
            raise InputError(
                f"the integral {name!r} has the shape {integrals[name].shape}, its rate "
                f"{rate.shape}: let it begin with jnp.zeros({rate.shape})."
            )
    return {name: jnp.broadcast_to(rate, integrals[name].shape) for name, rate in rates.items()}


def tendency_at(dynamics: AbstractDynamics, time: Scalar, state: State) -> AbstractTendency:
    """The right-hand side of all that is in a state, its integrals included."""
    tendency, (_, integrals) = dynamics.at(time), split_integrals(dynamics, state)
    if not integrals:
        return tendency
    names = tuple(integrals)
    return WithIntegrals(tendency, dynamics.integrands(time, names), names)


def scaled_rates(tendency: AbstractTendency, state: State, factor: Scalar) -> State:
    r"""$w F(u)$, of what is known already when a step begins.

    Args:
        tendency: $F$.
        state: $u$.
        factor: $w$.
    """

    # `checkpoint`: keep the state for the backward pass, not its product with every coefficient.
    @jax.checkpoint
    def scaled(tendency: AbstractTendency, state: State, factor: Scalar) -> State:
        return jax.tree.map(lambda rate: factor * rate, tendency(state))

    return scaled(tendency, state, factor)


@final
class WithIntegrals(AbstractTendency):
    """A right-hand side with the rates of some integrals.

    Attributes:
        fields: of the fields alone.
        integrands: the rates.
        integrals: their names.
    """

    fields: AbstractTendency
    integrands: AbstractTendency
    integrals: tuple[str, ...] = eqx.field(static=True)

    has_storage: ClassVar[bool] = True

    def __call__(self, state: State) -> State:
        """The rates of change.

        Raises: InputError for integrals of another shape than their rates.
        """
        fields, integrals = self.parts(state)
        return self.fields(fields) | broadcast_rates(self.integrands(fields), integrals)

    def stored(self, state: State) -> State:
        """See `AbstractTendency`; an integral stores itself."""
        fields, integrals = self.parts(state)
        return self.fields.stored(fields) | integrals

    def parts(self, state: State) -> tuple[State, State]:
        """Fields, and integrals."""
        fields = {field: u for field, u in state.items() if field not in self.integrals}
        return fields, {name: state[name] for name in self.integrals}

    @property
    def algebraic(self) -> tuple[str, ...]:
        """See `AbstractTendency`."""
        return self.fields.algebraic

    @property
    def scales(self) -> Mapping[str, float]:
        """See `AbstractTendency`."""
        return self.fields.scales


@final
class FieldsInverse(AbstractInverse):
    """The approximate inverse of the fields alone, in a solve that has integrals.

    Attributes:
        inner: of the fields.
        names: of the integrals.
    """

    inner: AbstractInverse
    names: tuple[str, ...] = eqx.field(static=True)

    def apply(self, vector: State) -> State:
        """See `AbstractInverse.apply`."""
        integrals = {name: vector[name] for name in self.names}
        return self.inner.apply({f: v for f, v in vector.items() if f not in integrals}) | integrals

    def transpose(self) -> Self:
        """That of the fields, beside the integrals."""
        return type(self)(self.inner.transpose(), self.names)
