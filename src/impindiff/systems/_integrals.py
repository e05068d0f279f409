"""Integrals over time: fields that follow from the others, and that nothing follows from."""

from typing import Any, final

import jax.numpy as jnp
from jaxtyping import Array

from impindiff._errors import InputError
from impindiff._types import AbstractTendency, State
from impindiff.systems._boundaries import Ends
from impindiff.systems._flux_of import known_fluxes
from impindiff.systems._scope import Scope
from impindiff.systems._state_at_ends import FaceValues, evaluate_ends
from impindiff.systems._state_tendency import Equations, add_up, in_free_cells
from impindiff.terms import AbstractSource, AbstractStateTerm, AbstractTerm


@final
class Integrands(AbstractTendency):
    r"""The rates $r(t, u)$ of some integrals, $\dot s = r$, at one instant.

    Attributes:
        terms: whose sum each of them is.
        boundaries: of all fields.
        carriers: the equations of fields whose flux the terms ask for.
        neighbours: terms of fields whose fluxes depend on the state.
        face_values: see `StateTendency`.
        scope: what closures may name.
    """

    terms: Equations
    boundaries: dict[str, Ends]
    carriers: Equations
    neighbours: Equations
    face_values: dict[str, FaceValues]
    scope: Scope

    def __call__(self, state: State) -> State:
        """The rate of every integral, in a state of the other fields.

        Of the grid's shape; without a grid of that of its terms.

        Raises: InputError for a rate of another shape.
        """
        grid, known = self.scope.grid, dict[str, Any](state)
        if grid is not None and self.carriers:
            equations = self.neighbours | self.carriers
            in_cells = self.scope.evaluate(equations, state)
            carrying = {field: in_cells[field] for field in self.carriers}
            given = self.scope, self.boundaries, equations, in_cells, state, self.face_values
            ends = evaluate_ends(*given, self.carriers)
            known |= known_fluxes(grid, carrying, ends, state)
        dtype = jnp.result_type(*state.values())
        found = {}
        for name, terms in self.scope.evaluate(self.terms, known).items():
            rates = [self._rate(term, known, name) for term in terms]
            # Fields without a grid may be of any shape each, and it is none of theirs.
            shape = max(map(jnp.shape, rates), key=len) if grid is None else grid.shape
            found[name] = add_up([jnp.zeros(shape, dtype), *rates], name)
        return found

    def _rate(self, term: AbstractTerm, known: dict[str, Any], name: str) -> Array:
        grid = self.scope.grid
        if isinstance(term, AbstractSource):
            return in_free_cells(grid, term.rate(grid))
        if not isinstance(term, AbstractStateTerm):  # refused where the system was put together
            raise InputError(f"the integral {name!r} has the term {type(term).__name__}.")
        return in_free_cells(grid, term.rate(grid, known, name))
