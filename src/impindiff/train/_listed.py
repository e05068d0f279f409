"""Lists of things of one kind, as training is given them."""

from collections.abc import Sequence
from typing import Any, TypeVar

from impindiff._errors import InputError
from impindiff.observe import AbstractObservation

T = TypeVar("T")


def listed(given: Any, kind: type[T], what: str, example: str) -> list[T]:
    """The things given, as a list.

    Args:
        given: what was given.
        kind: of which each must be.
        what: they are given as, for messages.
        example: such a list, as it is written.

    Raises: InputError for a single thing that is in no list, or one of another kind.
    """
    found = [given] if isinstance(given, str) or not isinstance(given, Sequence) else given
    strange = [each for each in found if not isinstance(each, kind)]
    if strange or found is not given:
        raise InputError(
            f"{what} must be a list such as {example}; found {(strange or found)[0]!r:.80}"
            f"{'' if strange else ' in no list'}."
        )
    return list(found)


def check_names(observations: Sequence[AbstractObservation]) -> None:
    """Refuse observations of nothing, or two of one variable.

    Raises: InputError.
    """
    names = [each.data for each in observations]
    if not names:
        raise InputError("observe is empty: name at least one observation, or leave it out.")
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(
            f"the data {', '.join(map(repr, sorted(repeated)))} are observed twice: every variable "
            "is data once. Name another with data=, or leave one of the observations out."
        )
