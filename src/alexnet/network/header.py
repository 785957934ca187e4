"""What a weights file says of itself: the JSON beside its tensors. Imports no torch."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import safetensors

from alexnet.atomic import checksum, from_json
from alexnet.errors import WeightsError
from alexnet.network.description import Architecture, Preprocessing, class_names

# 1: alexnet 0.1.0, without a checksum. 2: with one; no single flipped bit makes a 1 of a 2.
VERSION = 2
PLACE = re.compile(rb'\\"crc32\\": \\"(?=\w{8})')  # where it stands, as the header spells it


def load_description(path: Path) -> dict[str, Any]:
    """The description of a file of `checkpoint.save_tensors`; errors as in `read_checked`."""
    return read_checked(path)[1]


def read_checked(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The content and the description of a file of `checkpoint.save_tensors`, after its checksum
    was found right.

    Raises:
        WeightsError: no such file, damaged, cut short, or not written by this package.
    """
    if not path.is_file():
        raise WeightsError(
            f"there is no weights file {path}.",
            "Give a run directory, or a .safetensors file of a run.",
        )
    safetensors_metadata(path)
    try:
        data = path.read_bytes()
        header = from_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    try:
        about: dict[str, Any] = from_json(header["__metadata__"]["alexnet"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} was not written by alexnet: its metadata has no description.",
            "Give a run. Weights of another program: alexnet weights import FILE --as NAME",
        ) from error
    if not isinstance(about, dict) or about.get("version") not in range(1, VERSION + 1):
        version = about.get("version") if isinstance(about, dict) else "unknown"
        raise WeightsError(
            f"{path} is of version {version}; this alexnet reads 1 to {VERSION}.",
            "Use the alexnet that wrote it.",
        )
    place = place_of_checksum(data)
    if about["version"] > 1 and data[place : place + 8] != checksum(data, place):
        raise unreadable(path, "its checksum is not that of its content")
    return data, about


def place_of_checksum(data: bytes) -> int:
    """Where the 8 digits of the checksum stand in a safetensors file; 0 if it has none."""
    found = PLACE.search(data, 8, min(len(data), 8 + int.from_bytes(data[:8], "little")))
    return found.end() if found else 0


class Described(NamedTuple):
    """The network of a weights file, without its weights."""

    architecture: Architecture
    classes: list[str]
    names: list[str]
    preprocessing: Preprocessing


def described(about: dict[str, Any], where: object) -> Described:
    """The network that such a description is of; `where` it stands, for messages.

    Raises:
        WeightsError: it is of none, or of one that could not be used.
    """
    try:
        architecture = Architecture.from_dict(about["architecture"])
        how = Preprocessing.from_dict(about["preprocessing"])
        classes, names = (class_names(about[key]) for key in ("classes", "names"))
        if len(classes) != len(names):
            raise ValueError(f"{len(classes)} classes have {len(names)} names")
        if architecture.mean_image not in (0, how.crop):
            raise ValueError(f"its mean image has {architecture.mean_image} px, not {how.crop}")
        if not architecture.feature_side(how.crop):
            raise ValueError(f"of {how.crop} px the network leaves nothing")
    except (KeyError, ValueError) as error:
        reason = f"its description has no {error}" if isinstance(error, KeyError) else error
        raise WeightsError(
            f"{where} holds no network that can be used: {reason}.",
            "Give a run directory, or its best.safetensors.",
        ) from error
    return Described(architecture, classes, names, how)


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The metadata of any safetensors file.

    Raises:
        WeightsError: it is none, or cut short.
    """
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, reason: object) -> WeightsError:
    """The error of a weights file that is damaged."""
    own = path.suffix.lower() == ".safetensors"
    return WeightsError(
        f"{path} cannot be read as safetensors ({reason}).",
        "It is damaged, cut short or of another format; copy, fetch or train it again."
        if own
        else "Give a run. Weights of another program: alexnet weights import FILE --as NAME",
    )
