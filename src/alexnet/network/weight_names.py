"""Pretrained weights by name: which there are, and where. Imports no torch."""

import os
import re
from pathlib import Path

from alexnet.cache import cache_folder
from alexnet.data.fetch import Download
from alexnet.errors import WeightsError, did_you_mean

OFFICIAL = {
    "imagenet-2014": Download(
        file="alexnet-owt-7be5be79.pth",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        size=244_408_911,
        algorithm="sha256",
        checksum="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        instead="download the file elsewhere and run: alexnet weights import FILE --as "
        "imagenet-2014",
    )
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# weights of our own, part of the package; docs/backbone.md says how they came about
SHIPPED = {"backbone": Path(__file__).parent / "backbone.safetensors"}


def weights_folder() -> Path:
    """Where named weights are kept."""
    return cache_folder() / "weights"


def named_weights() -> dict[str, Path]:
    """The weights on this machine, by name: those that come with the package, and those that were
    fetched or imported."""
    return {path.stem: path for path in sorted(weights_folder().glob("*.safetensors"))} | SHIPPED


def require_weights(where: str) -> None:
    """Looks whether there are weights of a name, or a file that might hold some.

    Raises:
        WeightsError: there are none; says how to get them.
    """
    known = named_weights()
    if where in known or os.path.exists(Path(where).expanduser()):  # also of names that none can be
        return
    if "/" in where or "\\" in where or where.endswith(".safetensors"):
        raise WeightsError(f"there is no weights file {where}.", "Check the path.")
    if where in OFFICIAL:
        raise WeightsError(
            f"the weights {where} are not on this machine.",
            f"Fetch them with `alexnet weights fetch {where}`, or import a copy of the file: "
            f"alexnet weights import FILE --as {where}",
        )
    raise WeightsError(f"there are no weights {where!r}.", did_you_mean(where, [*known, *OFFICIAL]))


def require_importable(file: str | Path, name: str) -> Path:
    """The path of a file of weights that is to be kept under a name.

    Raises:
        WeightsError: it is not there, or the name is none.
    """
    path = Path(file).expanduser()
    if not NAME.fullmatch(name):
        raise WeightsError(
            f"{name!r} cannot be a name of weights.", "Use letters, digits, '.', '_' and '-'."
        )
    if not path.is_file():
        raise WeightsError(f"there is no file {path}.", "Check the path.")
    return path
