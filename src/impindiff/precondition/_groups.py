"""Parts of an unknown by the names at its top, and preconditioners that see one part alone."""

from collections.abc import Mapping, Sequence
from typing import Self, final

import equinox as eqx
import jax

from impindiff._errors import InputError
from impindiff._types import AbstractTendency, State, Vector
from impindiff.grid import Grid
from impindiff.linear import AbstractInverse, IdentityInverse, tree
from impindiff.precondition._preconditioner import AbstractPreconditioner, LinearisedStep

Groups = tuple[tuple[str, ...], ...]


@final
class GroupInverse(AbstractInverse):
    """For each group of fields an approximate inverse of its own, as if there were no other.

    Args:
        groups: names at the top of the unknown, each in one group.
        parts: for each group what is applied to that part of the unknown.

    `Staggered` takes the parts one by one; on a coupled system all stand side by side.

    Raises: InputError for groups that share a name, or another number of parts.
    """

    groups: Groups = eqx.field(static=True)
    parts: tuple[AbstractInverse, ...]

    def __init__(
        self, groups: Sequence[Sequence[str] | str], parts: Sequence[AbstractInverse]
    ) -> None:
        self.groups, self.parts = as_groups(groups), tuple(parts)
        if len(self.parts) != len(self.groups):
            raise InputError(
                f"GroupInverse: {len(self.parts)} preconditioners for {len(self.groups)} groups, "
                f"{self.groups}: give one for each."
            )

    def apply(self, vector: Vector) -> Vector:
        """Each part on its own group."""
        check_groups("GroupInverse", self.groups, vector)
        found = dict(vector)
        for group, part in zip(self.groups, self.parts, strict=True):
            found |= part.apply(tree.pick(vector, group))
        return found

    def transpose(self) -> Self:
        """Each part transposed."""
        return eqx.tree_at(lambda p: p.parts, self, tuple(p.transpose() for p in self.parts))

    def restricted(self, group: tuple[str, ...], like: Vector) -> AbstractInverse:
        """See `AbstractInverse.restricted`: that group's own, where there is one."""
        if group in self.groups:
            return self.parts[self.groups.index(group)]
        return super().restricted(group, like)


def as_groups(given: Sequence[Sequence[str] | str]) -> Groups:
    """Groups as tuples of names; a name alone is a group of one.

    Raises: InputError for no group, one without a name, and a name that is in two places.
    """
    try:
        listed = [given] if isinstance(given, str) else list(given)
        groups = tuple((each,) if isinstance(each, str) else tuple(each) for each in listed)
    except TypeError:
        groups = ()
    names = [name for group in groups for name in group]
    strange = [name for name in names if not isinstance(name, str)]
    if strange or not groups or not all(groups):
        raise InputError(
            f"groups are {given!r:.120}: give at least one group of at least one name, such as "
            "(('temperature',), ('gas', 'porosity'))."
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"groups name {twice[0]!r} twice: each belongs to one group.")
    return groups


def check_groups(whose: str, groups: Groups, unknown: Vector) -> None:
    """Refuse an unknown that is not made of the names of the groups.

    Raises: InputError.
    """
    if not isinstance(unknown, Mapping):
        raise InputError(
            f"{whose} tells parts of the unknown by name: it must be a dictionary with the keys "
            f"{_described(groups)}; found {jax.tree.structure(unknown)!s:.120}. For any other "
            "unknown use Newton."
        )
    named = {name for group in groups for name in group}
    if named != set(unknown):
        lacking, strange = sorted(set(unknown) - named), sorted(named - set(unknown))
        said = [f"nothing of {', '.join(lacking)}"] * bool(lacking)
        said += [f"{', '.join(strange)}, which is not there"] * bool(strange)
        raise InputError(
            f"the groups of {whose} are {_described(groups)}: they say {' and '.join(said)}. The "
            f"unknown consists of {', '.join(sorted(unknown))}; each must be in one group."
        )


def _described(groups: Groups) -> str:
    return "; ".join(", ".join(group) for group in groups)


@final
class ByGroup(AbstractPreconditioner):
    """For each group of fields what a preconditioner makes of their equations alone.

    For `Staggered`, with the same groups. On coupled systems, the adjoint's too, the groups'
    approximate inverses stand side by side, and the iteration is left with what groups do to each
    other: `BackwardEuler(Staggered(groups), ByGroup(groups, Multigrid()))`.

    Args:
        groups: names of fields, each in one group.
        preconditioners: of each group, `TransformLine(0)` for instance; or one for all.

    Raises: InputError for groups that share a name, or another number of preconditioners, and where
        it is used on a system of other fields.
    """

    groups: Groups = eqx.field(static=True)
    preconditioners: tuple[AbstractPreconditioner, ...]

    def __init__(
        self,
        groups: Sequence[Sequence[str] | str],
        preconditioners: AbstractPreconditioner | Sequence[AbstractPreconditioner],
    ) -> None:
        self.groups = as_groups(groups)
        self.preconditioners = (
            tuple(preconditioners)
            if isinstance(preconditioners, Sequence)
            else (preconditioners,) * len(self.groups)
        )
        if len(self.preconditioners) != len(self.groups):
            raise InputError(
                f"ByGroup: {len(self.preconditioners)} preconditioners for {len(self.groups)} "
                f"groups, {self.groups}: give one for each, or one for all."
            )

    def make(self, operator: LinearisedStep) -> GroupInverse:
        """See `AbstractPreconditioner.make`."""
        tendency, state = operator.tendency, operator.state
        if {name for group in self.groups for name in group} != set(state):
            raise InputError(
                f"ByGroup: the groups are {self.groups}, the fields {', '.join(sorted(state))}: "
                "each field must be in one group."
            )

        def part(group: tuple[str, ...], of: AbstractPreconditioner) -> AbstractInverse:
            own = _GroupTendency(tendency, state, group)
            made = of.make(LinearisedStep(own, operator.weight, tree.pick(state, group)))
            return IdentityInverse() if made is None else made

        pairs = zip(self.groups, self.preconditioners, strict=True)
        return GroupInverse(self.groups, [part(*pair) for pair in pairs])


@final
class _GroupTendency(AbstractTendency):
    """The right-hand side of some fields, the others held."""

    tendency: AbstractTendency
    held: State
    group: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, state: State) -> State:
        """Their rate of change."""
        return self._picked(self.tendency(self.held | state))

    def stored(self, state: State) -> State:
        """What is stored of them."""
        return self._picked(self.tendency.stored(self.held | state))

    @property
    def has_storage(self) -> bool:
        """See `AbstractTendency`."""
        return self.tendency.has_storage

    @property
    def algebraic(self) -> tuple[str, ...]:
        """See `AbstractTendency`."""
        every = self.tendency.algebraic
        return tuple(name for name in every if name in self.group)

    @property
    def scales(self) -> Mapping[str, float]:
        """See `AbstractTendency`."""
        every = self.tendency.scales
        return {name: scale for name, scale in every.items() if name in self.group}

    @property
    def grid(self) -> Grid | None:
        """See `AbstractTendency`."""
        return self.tendency.grid

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...] | None]:
        """See `AbstractTendency`."""
        kinds = self.tendency.mode_kinds
        return {name: kinds[name] for name in self.group if name in kinds}

    def _picked(self, state: State) -> State:
        return {name: state[name] for name in self.group}
