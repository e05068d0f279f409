"""What is kept account of beside the fields: integrals over time, and what they balance with."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import equinox as eqx

from impindiff._errors import InputError
from impindiff.coefficients import as_closures, as_coefficients
from impindiff.grid import Grid
from impindiff.latent import latents_of
from impindiff.systems._checks import named_fluxes
from impindiff.systems._field import check_terms
from impindiff.systems._flux_of import check_carriers
from impindiff.systems._names import check_arguments
from impindiff.systems._state_tendency import Equations
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
        """As given to `System`.

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
        settings: tuple[str, ...],
    ) -> None:
        """Refuse functions of what the system does not have, and integrals of each other.

        Raises: InputError, also for fluxes that follow from others, and balances that hold what is
            to be learned.
        """
        known = {
            "fields": tuple(equations),
            "axes": () if grid is None else grid.names,
            "coefficients": tuple(coefficients),
        } | ({"sample parameters": settings} if settings else {})
        for name, terms in self.integrals.items():
            check_arguments(terms, f"the integral {name!r}", known | named_fluxes(equations))
            check_carriers(terms, f"the integral {name!r} is of", equations)
        known["integrals"] = tuple(self.integrals)
        for name, parts in self.balances.items():
            check_arguments(parts, f"the balance {name!r}", known)
            if latents := latents_of(parts):
                raise InputError(
                    f"the balance {name!r} holds the learned {latents[0].names[0]!r}: name it by a "
                    "function, and give it in System(coefficients=...)."
                )
