"""The ways a run can go wrong that are not a bug of this package.

They are apart because their remedies are: an `InputError` is mended by the user before anything is
computed, a `NumericsError` comes out of a computation and says what was saved and how to go on, and
so does a `FolderLostError`, where the place is gone in which a run was written.
The command line turns them into exit status 2, 3 and 3.

What a user's own function raises becomes an `InputError` that says whose function it was, and what
JAX makes of an error in compiled code the `NumericsError` that it was.
"""

import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any

# Not errors, but they end a run too: Ctrl-C, requests of users, a terminal that closes, a limit on
# time, and the warning of a scheduler before that.
REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1)


class InputError(ValueError):
    """The user's input is wrong: a config key, a data file, an argument."""


class NumericsError(RuntimeError):
    """The numerics failed: a solve that did not converge, a loss that is not finite."""


class FolderLostError(RuntimeError):
    """The folder of a run was moved or deleted while the run was written there."""


def text_of(error: BaseException) -> str:
    """What an error says, which may be of a user's class that fails to say it."""
    try:
        return str(error)
    except Exception as failure:
        return f"(its __str__ raises {type(failure).__name__})"


# Their frames lie between a user's line and what is wrong with it: constructors are called by
# equinox, callbacks by jax, and functions whose types are checked by jaxtyping.
_BETWEEN = ("impindiff", "equinox", "jax", "jaxtyping")


def warn_caller(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn of something, at the user's line that led to it.

    Args:
        message: what was found, and the way out.
        category: of the warning.
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and _package_of(frame) in _BETWEEN:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _package_of(frame: FrameType) -> str:
    return frame.f_globals.get("__name__", "").partition(".")[0]


@contextmanager
def blamed_on(what: str, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what goes wrong inside into an InputError that says where.

    Args:
        what: runs inside, such as "the function <lambda>(c)".
        but: exceptions that are handed on as they are.

    Raises: InputError for any exception but those that say enough by themselves, and for an exit.
    """
    jax_errors = _jax_errors()
    # These say enough, or are nobody's fault.
    ours = (InputError, NumericsError, FolderLostError)
    enough = (*ours, MemoryError, RecursionError, jax_errors.JaxRuntimeError)
    try:
        yield
    except (*but, *enough):
        raise
    except SystemExit as error:
        raise InputError(
            f"{what} calls sys.exit({error.code!r}): raise an error instead."
        ) from error
    except jax_errors.UnexpectedTracerError as error:
        raise _leaked(what) from error
    except Exception as error:
        text = text_of(error).strip().splitlines()
        raise InputError(
            f"{what} fails: {type(error).__name__}{': ' if text else ''}{text[0] if text else ''}"
        ) from error


@contextmanager
def leak_errors(what: str) -> Iterator[None]:
    """Turn what JAX says of arrays from another trace into an InputError.

    It may find them only when all has been traced, and cannot say whose they are.

    Args:
        what: runs inside.

    Raises: InputError.
    """
    jax_errors = _jax_errors()
    try:
        yield
    except jax_errors.UnexpectedTracerError as error:
        raise _leaked(what) from error


def _jax_errors() -> ModuleType:
    # Not with this module: who only wants to know what went wrong need not wait for JAX.
    import jax.errors

    return jax.errors


def _leaked(what: str) -> InputError:
    return InputError(
        f"{what} uses a traced array that it has not been given: one from around it, of jit, "
        "grad or vmap, or one kept from another call. Pass it by keyword, "
        "Reaction(lambda c, k: -k * c, k=k), or by name, System(coefficients={'k': k}); in a "
        "class of your own hold it in an attribute."
    )


@contextmanager
def numerics_errors() -> Iterator[None]:
    """Turn the error of compiled code back into the NumericsError that was raised in it.

    `ImplicitAdjoint(on_failure="raise")` raises where JAX calls back from a compiled program, and
    JAX hands on the text alone.
    Raises: NumericsError.
    """
    try:
        yield
    except _compiled_errors() as error:
        _, found, text = str(error).rpartition(f"{NumericsError.__name__}: ")
        if not found:
            raise
        raise NumericsError(text.strip().splitlines()[0]) from None


def _compiled_errors() -> tuple[type[Exception], ...]:
    """What JAX raises for compiled code; nothing where it has not, or not wholly, been imported.

    It is asked for while something else is on its way up, such as an interrupt in the middle of
    JAX's own import, which must not be tried again.
    """
    kind = getattr(sys.modules.get("jax.errors"), "JaxRuntimeError", None)
    return () if kind is None else (kind,)


def as_number(value: Any, what: str) -> float:
    """A real number as Python has it.

    Args:
        value: in its place.
        what: how messages call it, such as "the tolerance rtol".

    Raises: InputError for anything else.
    """
    try:
        if not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{what} is {value!r:.60}: it must be one number.")


def as_count(value: Any, what: str, least: int | None = None) -> int:
    """The same for a whole number, of at least so many."""
    number = as_number(value, what)
    if not number.is_integer() or (least is not None and number < least):
        wanted = "" if least is None else f" of at least {least}"
        raise InputError(f"{what} is {value!r:.60}: it must be a whole number{wanted}.")
    return int(number)


def as_text(value: Any, what: str) -> str:
    """The same for text, such as a name."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{what} is {value!r:.60}: it must be text, and not empty.")
    return str(value)


def as_names(value: Any, what: str) -> tuple[str, ...]:
    """Names as a tuple; a single one need not be in a list."""
    if isinstance(value, str):
        return (value,)
    names = tuple(value) if isinstance(value, Iterable) else (value,)
    if all(isinstance(name, str) for name in names):
        return names
    raise InputError(f"{what} is {value!r:.60}: it must be a name, or a list of names.")


def as_flag(value: Any, what: str) -> bool:
    """The same for True or False: text is neither, and any but the empty one would be true."""
    try:
        if not isinstance(value, str) and value in (True, False):
            return bool(value)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{what} is {value!r:.60}: it must be True or False.")
