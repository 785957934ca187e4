"""Pickles of NumPy arrays and plain containers, and of nothing else: whatever another pickle asks
to be made or called is refused, and nothing is run. CIFAR's python version comes as such."""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from alexnet.errors import DataError

NUMBERS = re.compile(r"[<>|=]?[biuf][1248]\Z")  # types of numbers, as NumPy writes them


class _Type:
    """What a pickle says of the type of an array."""

    def __init__(self, name: Any, *_: Any) -> None:
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
        if not NUMBERS.match(text):
            raise ValueError(f"an array of {text[:20]!r}, not of numbers")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        if order in ("<", ">"):
            self.dtype = np.dtype(order + self.dtype.str[1:])


class _Array:
    """An array before its numbers are read."""

    array: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        self._take(content.encode("latin-1") if isinstance(content, str) else content, kind,
                   shape, "F" if by_columns else "C")  # fmt: skip

    def _take(self, content: Any, kind: Any, shape: Any, order: Any) -> None:
        if not isinstance(kind, _Type) or not isinstance(content, bytes | bytearray):
            raise ValueError("an array of other things than numbers")
        if math.prod(shape) * kind.dtype.itemsize != len(content):
            raise ValueError(f"an array of shape {shape} with {len(content):,} bytes")
        self.array = np.frombuffer(bytes(content), kind.dtype).reshape(shape, order=order)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
    """How NumPy 2 writes arrays by pickle's protocol 5."""
    if axes is not None or order not in ("C", "F"):
        raise ValueError("an array whose axes are in another order")
    found = _Array()
    found._take(content, kind, shape, order)
    return found


def _scalar(kind: Any, content: Any) -> Any:
    content = content.encode("latin-1") if isinstance(content, str) else content
    return np.frombuffer(content, kind.dtype)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes for Python 2."""
    return text.encode("latin-1")


KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    **{
        (f"numpy.{core}.multiarray", name): made
        for core in ("core", "_core")
        for name, made in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return KNOWN[module, name]


def load(file: IO[bytes], where: Path | str) -> Any:
    """What a pickle holds: dictionaries, lists, text, numbers and arrays of numbers.

    Raises:
        DataError: it is damaged, or holds anything else; nothing of that was made or run.
    """
    try:
        content = file.read()
        _refuse_costly(content)
        return _plain(_Plain(io.BytesIO(content), encoding="latin1").load())
    except Exception as error:  # of every kind: what a damaged pickle trips over
        raise DataError(
            f"{where} is no pickle of arrays and plain containers alone ({str(error)[:200]}); "
            "nothing of it was run.",
            "Fetch it again; write other pickles as .npz or as image files.",
        ) from error


def _refuse_costly(content: bytes) -> None:
    """ValueError where a place is noted that there cannot be: the reader makes room for all below
    it, gigabytes perhaps."""
    for code, argument, _ in pickletools.genops(content):
        if "PUT" in code.name and isinstance(argument, int) and argument > len(content):
            raise ValueError(f"place {argument:,} in {len(content):,} bytes")


def _plain(value: Any, deep: int = 0) -> Any:
    """The same with arrays as arrays."""
    if isinstance(value, _Array):
        return value.array
    if deep > 8:
        raise ValueError("containers in containers, too deep")
    if isinstance(value, dict):
        return {_plain(key, deep + 1): _plain(one, deep + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, deep + 1) for one in value]
    if value is None or isinstance(value, str | bytes | int | float | np.generic):
        return value
    raise ValueError(f"a {type(value).__name__}")
