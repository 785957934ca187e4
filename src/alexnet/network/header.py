"""What a weights file says of itself: the JSON beside its tensors. Imports no torch."""

import json
from pathlib import Path
from typing import Any

import safetensors

from alexnet.errors import WeightsError

# 1: alexnet 0.1.0, without a checksum. 2: with one; no single flipped bit makes a 1 of a 2.
VERSION = 2


def load_description(path: Path) -> dict[str, Any]:
    """The description of a file of `checkpoint.save_tensors`.

    Raises:
        WeightsError: no such file, damaged, cut short, or not written by this package.
    """
    if not path.is_file():
        raise WeightsError(
            f"there is no weights file {path}.",
            "Give a run directory, or a .safetensors file of a run.",
        )
    metadata = safetensors_metadata(path)
    try:
        about: dict[str, Any] = json.loads(metadata["alexnet"])
    except (KeyError, ValueError) as error:
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
    return about


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
