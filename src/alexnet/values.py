"""What a value must be: of a recipe's field, of a flag, of an argument of a public function. Its
type says so, with ranges beside: `Annotated[int, Between(1)]`. Standard library only."""

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)  # fmt: skip

from alexnet.errors import InputError, did_you_mean

P = ParamSpec("P")
Returned = TypeVar("Returned")

LONGEST = 255  # bytes of one name in a path, in the file systems that people have


@dataclass(frozen=True)
class Between:
    """The range of a number, both ends included unless `open_low`."""

    low: float
    high: float = float("inf")
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.open_low else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
        return low if self.high == float("inf") else f"{low} and at most {self.high:g}"


Positive = Between(0, open_low=True)
Count = Annotated[int, Between(1)]
Whole = Annotated[int, Between(0)]
Port = Annotated[int, Between(0, 65535)]
Precision = Literal["auto", "bf16", "fp32"]
BadImages = Literal["error", "skip"]
ELSEWHERE = "looked at elsewhere"  # beside the type of an argument that has a better answer there


def checked_arguments(function: Callable[P, Returned]) -> Callable[P, Returned]:
    """A public function that looks at its arguments before it does anything: each is what its type
    says (`checked`), and None for one that has a default means that default.

    Raises:
        InputError: one is not.
    """
    signature = inspect.signature(function)
    hints = functools.cache(lambda: get_type_hints(function, include_extras=True))

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Returned:
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python says it with the function's name
        for name, value in list(given.arguments.items()):
            parameter = signature.parameters[name]
            if name not in hints() or parameter.kind is parameter.VAR_KEYWORD:
                continue  # self, or fields, which are looked at as a recipe
            if value is None and parameter.default is not parameter.empty:
                given.arguments[name] = parameter.default
            else:
                given.arguments[name] = checked(name, value, hints()[name])
        return function(*given.args, **given.kwargs)

    return call


def checked(name: str, value: Any, hint: Any) -> Any:
    """`value` as the type `hint` wants it: 7 is a float, numbers of NumPy are numbers, a list is a
    tuple, one text or path stands for a sequence of them. What is said by other types than the ones
    named here is not looked at.

    Raises:
        InputError: it is of another type, or out of range; names it, what was expected and found.
    """
    limits: list[Any] = []
    if get_origin(hint) is Annotated:
        hint, *limits = get_args(hint)
    if ELSEWHERE in limits:
        return value
    origin = get_origin(hint)
    if origin in (Union, UnionType, Literal):
        return _one_of(name, value, (hint,) if origin is Literal else get_args(hint))
    if origin is tuple:
        return _tuple(name, value, get_args(hint))
    if origin is Sequence:
        return _several(name, value, hint)
    if _open(hint):
        return value
    if hint in (int, float):
        value = _number(name, value, hint)
    elif hint is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif hint is bool and str(getattr(value, "dtype", "")) == "bool" and not value.ndim:
        value = bool(value)
    elif not (
        callable(value) if origin is Callable
        else isinstance(value, str | os.PathLike) if hint is Path
        else isinstance(value, hint)
    ):  # fmt: skip
        raise _other(name, value, [hint])
    if hint is Path:
        _require_path(name, value)
    for limit in limits:
        if isinstance(limit, Between) and value not in limit:
            raise InputError(f"{name} is {value!r}, expected {limit}.")
    return value


def _open(hint: Any) -> bool:
    """Whether a type says nothing that is looked at here."""
    if get_origin(hint) in (Annotated, Literal, tuple, Sequence, Callable):
        return False
    return not isinstance(hint, type) or bool(get_origin(hint)) or Protocol in hint.__mro__


def _one_of(name: str, value: Any, options: tuple[Any, ...]) -> Any:
    """`value` as one of several types: a word first, else the first of the others that takes it."""
    if any(_open(one) and one is not os.PathLike[str] for one in options):
        return value
    if value is None and NoneType in options:
        return value
    words = [word for one in options if get_origin(one) is Literal for word in get_args(one)]
    for word in words:
        if _alike(value, word):
            return word
    as_path = {str, os.PathLike[str]} if Path in options else set()
    rest = [
        one
        for one in options
        if get_origin(one) is not Literal and one is not NoneType and one not in as_path
    ]
    if len(rest) == 1 and not (isinstance(value, str) and words):
        return checked(name, value, rest[0])
    for one in rest:
        try:
            return checked(name, value, one)
        except InputError:
            continue
    if words:
        raise InputError(
            f"{name} is {_short(value)}, expected one of "
            f"{', '.join([*map(str, words), *map(_expectation, rest)])}.",
            did_you_mean(str(value), map(str, words)),
        )
    raise _other(name, value, rest)


def _alike(value: Any, word: object) -> bool:
    if isinstance(word, str) or isinstance(value, bool):
        return isinstance(value, str) and value == word
    return isinstance(value, Real) and value == word


def _tuple(name: str, value: Any, parts: tuple[Any, ...]) -> Any:
    found = _listed(value)
    if parts[1:] == (...,) and found is not None:
        parts = parts[:1] * len(found)
    if found is None or len(found) != len(parts):
        example = ", ".join("400" if one is int else "0.5" for one in parts)
        raise InputError(
            f"{name} is {_short(value)}, expected {len(parts)} numbers.",
            f"Example: {name}=({example})",
        )
    return tuple(checked(name, one, part) for one, part in zip(found, parts, strict=True))


def _several(name: str, value: Any, hint: Any) -> Any:
    """A sequence of what is in it; what holds anything stays as it is."""
    if isinstance(value, str | os.PathLike):
        value = [value]
    found, (inside,) = _listed(value), get_args(hint)
    if found is None:
        raise _other(name, value, [hint])
    if inside is Any:  # it may be an array or a table's column, which are more than their values
        return value if hasattr(value, "__len__") else found
    return [checked(name, one, inside) for one in found]


def _listed(value: Any) -> list[Any] | None:
    """What a value holds one after the other; None if it is no sequence of values."""
    if isinstance(value, str | bytes | dict) or not hasattr(value, "__iter__"):
        return None
    try:
        return list(value)
    except (TypeError, ValueError):  # an array without dimensions, a closed file
        return None


def _number(name: str, value: Any, hint: Any) -> Any:
    kind: Any = Integral if hint is int else Real
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _other(name, value, [hint])
    if not abs(value) < 2**63:  # a NaN is none, and no integer has more than 64 bits
        raise InputError(f"{name} is {value!r}, expected a number below 2^63.")
    return hint(value)


def _require_path(name: str, value: Any) -> None:
    text = os.fspath(value)
    if not isinstance(text, str) or "\0" in text:
        raise InputError(f"{name} is {_short(value)}, which no path can be.")
    if any(len(os.fsencode(part)) > LONGEST for part in Path(text).parts):
        raise InputError(f"{name} is {_short(value)}..., longer than any name of a file.")


def _other(name: str, value: Any, hints: Sequence[Any]) -> InputError:
    *first, last = map(_expectation, hints)
    expected = f"{', '.join(first)} or {last}" if first else last
    return InputError(f"{name} is {_short(value)}, expected {expected}.")


def _expectation(hint: Any) -> str:
    """A type in words."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    words = {
        int: "a whole number", float: "a number", bool: "true or false", str: "text",
        Path: "a path",
    }  # fmt: skip
    if get_origin(hint) is Sequence:
        return "a list"
    if get_origin(hint) is Callable:
        return "a function"
    return words.get(hint) or f"a {hint.__name__}"


def _short(value: Any) -> str:
    return f"{' '.join(repr(value).split()):.60}"
