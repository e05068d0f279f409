"""Preconditioners for groups of fields, each made as if the other fields were given."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import final

import equinox as eqx

from impindiff._errors import InputError
from impindiff._types import BalanceTendency, Scalar, State, Tendency
from impindiff.grid import Grid
from impindiff.implicit import AbstractPreconditioner, GroupWise, as_groups
from impindiff.terms._block_preconditioners import Preconditioning
from impindiff.terms._linearised import grid_of, kinds_of

Groups = tuple[tuple[str, ...], ...]


def by_group(
    groups: Sequence[Sequence[str] | str],
    preconditioning: Preconditioning | Sequence[Preconditioning],
) -> Preconditioning:
    """For each group of fields what a preconditioner makes of their equations alone.

    For `Staggered`, with the same groups. On coupled systems, the adjoint's too, the groups'
    preconditioners stand side by side, and the iteration is left with what groups do to each other.

    Args:
        groups: names of fields, each in one group.
        preconditioning: what makes the preconditioner of a group, `transform_line(0)` for instance;
            or one for each group.

    Returns:
        What makes the preconditioner; `BackwardEuler(Staggered(groups), by_group(groups,
        multigrid()))`.

    Raises: InputError for groups that share a name, or another number of preconditioners;
        InputError where it is used on a system of other fields.
    """
    listed = as_groups(groups)
    makers = (
        tuple(preconditioning)
        if isinstance(preconditioning, Sequence)
        else (preconditioning,) * len(listed)
    )
    if len(makers) != len(listed):
        raise InputError(
            f"by_group: {len(makers)} preconditioners for {len(listed)} groups, {listed}: give one "
            "for each, or one for all."
        )
    return _by_group(listed, makers)


# One function for the same arguments, or steppers that differ in nothing else would be compiled
# apart.
@cache
def _by_group(groups: Groups, makers: tuple[Preconditioning, ...]) -> Preconditioning:
    def for_groups(tendency: Tendency, weight: Scalar, state: State) -> GroupWise:
        if {name for group in groups for name in group} != set(state):
            raise InputError(
                f"by_group: the groups are {groups}, the fields {', '.join(sorted(state))}: each "
                "field must be in one group."
            )

        def part(group: tuple[str, ...], make: Preconditioning) -> AbstractPreconditioner:
            own = {name: state[name] for name in group}
            return make(_GroupTendency(tendency, state, group), weight, own)

        return GroupWise(groups, [part(*pair) for pair in zip(groups, makers, strict=True)])

    return for_groups


@final
class _GroupTendency(eqx.Module):
    """The right-hand side of some fields, the others held."""

    tendency: Tendency
    held: State
    group: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, state: State) -> State:
        """Their rate of change."""
        return self._picked(self.tendency(self.held | state))

    def stored(self, state: State) -> State:
        """What is stored of them."""
        if not isinstance(self.tendency, BalanceTendency):
            return state
        return self._picked(self.tendency.stored(self.held | state))

    @property
    def algebraic(self) -> tuple[str, ...]:
        """See `impindiff._types.BalanceTendency`."""
        every = self.tendency.algebraic if isinstance(self.tendency, BalanceTendency) else ()
        return tuple(name for name in every if name in self.group)

    @property
    def scales(self) -> Mapping[str, float]:
        """See `impindiff._types.BalanceTendency`."""
        every = self.tendency.scales if isinstance(self.tendency, BalanceTendency) else {}
        return {name: scale for name, scale in every.items() if name in self.group}

    @property
    def grid(self) -> Grid | None:
        """See `impindiff.terms.OnGrid`."""
        return grid_of(self.tendency)

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...] | None]:
        """See `impindiff.terms.Ended`."""
        kinds = kinds_of(self.tendency, self.held)
        return {name: kinds[name] for name in self.group}

    def _picked(self, state: State) -> State:
        return {name: state[name] for name in self.group}
