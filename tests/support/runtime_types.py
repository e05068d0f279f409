"""The type checker that the tests put around every function of the package.

Beartype, with three allowances. An `int` passes for a `float`, as it does for static checkers. A
hint with `Self` in it is not checked: `Self` means something only to a checker that sees the whole
class, and this one is given functions. Nor is a parameter that is `Never`: static checkers let
nothing pass for it, and the function itself says why.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Never, Self, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def _is_unchecked(hint: object) -> bool:
    return hint in (Self, Never) or any(_is_unchecked(part) for part in get_args(hint))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with its arguments and result checked against its annotations."""
    function.__annotations__ = {
        name: Any if _is_unchecked(hint) else hint
        for name, hint in function.__annotations__.items()
    }
    return _checked(function)


@contextmanager
def without() -> Iterator[None]:
    """No checks, as in a user's program: what the package itself says to a wrong type."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
