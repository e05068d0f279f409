"""Kinds of values that tables of a config file hold, and what every table refuses."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, PlainValidator
from pydantic_core import PydanticKnownError

from impindiff._errors import InputError
from impindiff.rollout import parse_bytes

_LONGEST_NAME = 200


def check_name(name: str) -> str:
    """Refuse what no variable of a data file is called."""
    if not name.strip() or name != name.strip() or "/" in name or not name.isprintable():
        raise ValueError(f"{name!r} cannot name a variable of a data file")
    # Variables of a zarr store are folders.
    if name.startswith(".") or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"{name[:40]!r} cannot name a variable of a data file: it must not begin with a dot, "
            f"nor take more than {_LONGEST_NAME} bytes"
        )
    if name in ("sample", "time", "x", "y", "z"):
        raise ValueError(f"{name!r} is the name of a dimension, choose another")
    return name


def check_interval(bounds: list[float]) -> list[float]:
    """Refuse an interval that is empty."""
    low, high = bounds
    if not low < high:
        raise ValueError(f"[{low}, {high}] is empty: the second number must be the larger")
    return bounds


Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Tolerance = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, AfterValidator(check_name)]


def _amount_of_memory(amount: str) -> str:
    try:
        parse_bytes(amount)
    except InputError as error:
        raise ValueError(str(error)) from None
    return amount


Memory = Annotated[str, AfterValidator(_amount_of_memory)]


def _function_name(name: str) -> str:
    module, _, function = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise ValueError(
            f"{name!r} names no function: write 'module:function', for a function in module.py "
            "beside the config"
        )
    return name


FunctionName = Annotated[str, AfterValidator(_function_name)]


def _inner_path(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ValueError(f"{name!r} does not lie beside the config, or in a folder beside it")
    return path.as_posix()


InnerPath = Annotated[str, AfterValidator(_inner_path)]


class Table(BaseModel):
    """A table that refuses keys it does not know and values of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def numbers_in(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """The numbers with a fraction in nested tables and lists, each with its dotted key."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in pairs:
            yield from numbers_in(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, float):
        yield key, value


def one_of(names: Iterable[str]) -> str:
    """The names as a message says them: 'a', 'b' or 'c'."""
    *first, last = map(repr, names)
    return f"{', '.join(first)} or {last}" if first else last


def is_one_of(names: Iterable[str]) -> PlainValidator:
    """Accepts these names and nothing else, as a `Literal` of them would."""
    allowed = tuple(names)

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise PydanticKnownError("literal_error", {"expected": one_of(allowed)})
        return value

    return PlainValidator(check)


def tagged(key: str, known: type | tuple[type, ...] = (), *, allowed: str) -> Discriminator:
    """Tells the tables of a union apart by a key, and from values that are no table by type."""

    def tag(value: Any) -> str | None:
        if isinstance(value, known):
            return "known"
        found = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        return found if isinstance(found, str) else None

    return Discriminator(
        tag, custom_error_type="kind", custom_error_message=f"Input should be {allowed}"
    )
