"""Integrals over time and balances: what follows from the fields, and no field follows from."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._errors import InputError
from impindiff._types import AbstractTendency, State
from impindiff.coefficients import as_closures, as_coefficients
from impindiff.grid import Grid
from impindiff.latent import latents_of
from impindiff.systems._checks import flux_names
from impindiff.systems._fields import check_terms
from impindiff.systems._flux_of import check_carriers, evaluate_fluxes
from impindiff.systems._names import check_arguments
from impindiff.systems._outer_faces import Ends
from impindiff.systems._scope import Scope
from impindiff.systems._state_at_ends import FaceValues, evaluate_ends
from impindiff.systems._state_tendency import Equations, mask_solid, sum_rates
from impindiff.terms import AbstractSource, AbstractStateTerm, AbstractTerm


@final
class Accounts(eqx.Module):
    """Integrals and balances of a system, see `System`.

    Attributes:
        integrals: for each its terms.
        balances: for each its parts, functions of fields, integrals and coefficients.
    """

    integrals: Equations = eqx.field(default_factory=dict)
    balances: dict[str, dict[str, Any]] = eqx.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        integrals: Mapping[str, Sequence[AbstractTerm]],
        balances: Mapping[str, Mapping[str, Any]],
    ) -> "Accounts":
        """Checked and made of the arguments of `System`.

        Raises: InputError for what is no list of terms without fluxes, or balances without parts.
        """
        for name, terms in integrals.items():
            check_terms(terms, f"the integral {name!r}")
            for term in terms:
                if not isinstance(term, AbstractSource | AbstractStateTerm):
                    raise InputError(
                        f"the integral {name!r} has the term {type(term).__name__}: an integral "
                        "moves nowhere, so its terms are Reaction, Source, Supply and the like."
                    )
        for name, parts in balances.items():
            if (
                not isinstance(parts, Mapping)
                or not parts
                or any(p is None for p in parts.values())
            ):
                raise InputError(
                    f"the balance {name!r} must be a mapping of at least one part to its density, "
                    f"{{'inside': lambda c: c}}; found {parts!r:.80}."
                )
        return cls(
            {
                name: tuple(as_closures(term, (AbstractTerm,)) for term in terms)
                for name, terms in integrals.items()
            },
            {name: as_coefficients(dict(parts)) for name, parts in balances.items()},
        )

    @property
    def named(self) -> dict[str, Any]:
        """What holds functions, by what messages call it."""
        named: dict[str, Any] = {
            f"the integral {name!r}": terms for name, terms in self.integrals.items()
        }
        return named | {f"the balance {name!r}": of for name, of in self.balances.items()}

    def check(
        self,
        grid: Grid | None,
        equations: Equations,
        coefficients: Mapping[str, Any],
        parameters: tuple[str, ...],
    ) -> None:
        """Refuse functions of what the system does not have, and integrals of each other.

        Raises: InputError, also for fluxes that follow from others, and balances that hold what is
            to be learned.
        """
        known = {
            "fields": tuple(equations),
            "axes": () if grid is None else grid.names,
            "coefficients": tuple(coefficients),
        } | ({"sample parameters": parameters} if parameters else {})
        for name, terms in self.integrals.items():
            check_arguments(terms, f"the integral {name!r}", known | flux_names(equations))
            check_carriers(terms, f"the integral {name!r} is of", equations)
        known["integrals"] = tuple(self.integrals)
        for name, parts in self.balances.items():
            check_arguments(parts, f"the balance {name!r}", known)
            if latents := latents_of(parts):
                raise InputError(
                    f"the balance {name!r} holds the learned {latents[0].names[0]!r}: name it by a "
                    "function, and give it in System(coefficients=...)."
                )


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
            arguments = self.scope, self.boundaries, equations, in_cells, state, self.face_values
            ends = evaluate_ends(*arguments, self.carriers)
            known |= evaluate_fluxes(grid, carrying, ends, state)
        dtype = jnp.result_type(*state.values())
        found = {}
        for name, terms in self.scope.evaluate(self.terms, known).items():
            rates = [self._rate(term, known, name) for term in terms]
            # Fields without a grid may be of any shape each, and it is none of theirs.
            shape = max(map(jnp.shape, rates), key=len) if grid is None else grid.shape
            found[name] = sum_rates([jnp.zeros(shape, dtype), *rates], name)
        return found

    def _rate(self, term: AbstractTerm, known: dict[str, Any], name: str) -> Array:
        grid = self.scope.grid
        if isinstance(term, AbstractSource):
            return mask_solid(grid, term.rate(grid))
        if not isinstance(term, AbstractStateTerm):  # refused where the system was put together
            raise InputError(f"the integral {name!r} has the term {type(term).__name__}.")
        return mask_solid(grid, term.rate(grid, known, name))
