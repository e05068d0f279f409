"""Parts of an unknown by the names at its top, and preconditioners that see one part alone."""

from collections.abc import Mapping, Sequence
from typing import Self, final

import equinox as eqx
import jax

from impindiff._errors import InputError
from impindiff._types import Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._preconditioner import AbstractPreconditioner
from impindiff.implicit._scaled import Scaled

Groups = tuple[tuple[str, ...], ...]


@final
class GroupWise(AbstractPreconditioner):
    """For each group of fields a preconditioner of its own, as if there were no other.

    Args:
        groups: names at the top of the unknown, each in one group.
        parts: for each group what is applied to that part of the unknown.

    `Staggered` takes the parts one by one; on a coupled system all stand side by side.

    Raises: InputError for groups that share a name, or another number of parts.
    """

    groups: Groups = eqx.field(static=True)
    parts: tuple[AbstractPreconditioner, ...]

    def __init__(
        self, groups: Sequence[Sequence[str] | str], parts: Sequence[AbstractPreconditioner]
    ) -> None:
        self.groups, self.parts = as_groups(groups), tuple(parts)
        if len(self.parts) != len(self.groups):
            raise InputError(
                f"GroupWise: {len(self.parts)} preconditioners for {len(self.groups)} groups, "
                f"{self.groups}: give one for each."
            )

    def apply(self, vector: Vector) -> Vector:
        """Each part on its own group."""
        check_groups("GroupWise", self.groups, vector)
        found = dict(vector)
        for group, part in zip(self.groups, self.parts, strict=True):
            found |= part.apply(pick(vector, group))
        return found

    def transpose(self) -> Self:
        """Each part transposed."""
        return eqx.tree_at(lambda p: p.parts, self, tuple(p.transpose() for p in self.parts))


@final
class Restricted(AbstractPreconditioner):
    """What a preconditioner of all fields makes of a part, the others being zero."""

    inner: AbstractPreconditioner
    others: Vector

    def apply(self, vector: Vector) -> Vector:
        """The part of what all fields become."""
        return pick(self.inner.apply(dict(self.others) | dict(vector)), tuple(vector))

    def transpose(self) -> Self:
        """The same of the transpose."""
        return type(self)(self.inner.transpose(), self.others)


def restricted(
    preconditioner: AbstractPreconditioner, group: tuple[str, ...], like: Vector
) -> AbstractPreconditioner:
    """The preconditioner of one group alone.

    That group's own where there is one. Of any other, what it makes of the group where all else is
    zero: the same where it does not mix fields, and where it does, with what the other fields would
    answer at once.

    Args:
        preconditioner: of the whole unknown.
        group: names.
        like: the whole unknown.
    """
    if isinstance(preconditioner, Scaled):
        inner = restricted(preconditioner.inner, group, like)
        return Scaled(inner, pick(preconditioner.columns, group), pick(preconditioner.rows, group))
    if isinstance(preconditioner, GroupWise) and group in preconditioner.groups:
        return preconditioner.parts[preconditioner.groups.index(group)]
    return Restricted(preconditioner, tree.zeros_like(like))


def pick(vector: Vector, group: tuple[str, ...]) -> Vector:
    """The part with these names."""
    return {name: vector[name] for name in group}


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
            f"{_told(groups)}; found {jax.tree.structure(unknown)!s:.120}. For any other unknown "
            "use Newton."
        )
    named = {name for group in groups for name in group}
    if named != set(unknown):
        lacking, strange = sorted(set(unknown) - named), sorted(named - set(unknown))
        said = [f"nothing of {', '.join(lacking)}"] * bool(lacking)
        said += [f"{', '.join(strange)}, which is not there"] * bool(strange)
        raise InputError(
            f"the groups of {whose} are {_told(groups)}: they say {' and '.join(said)}. The "
            f"unknown consists of {', '.join(sorted(unknown))}; each must be in one group."
        )


def _told(groups: Groups) -> str:
    return "; ".join(", ".join(group) for group in groups)
