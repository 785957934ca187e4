"""Pretrained weights by name: fetched or imported once, kept in the cache as safetensors together
with their network and their preprocessing, and carried into a network layer by layer.

Every network here sees RGB. Weights made for BGR get the input channels of their first layer
reversed when they are imported, and are then weights for RGB.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from alexnet.atomic import digest, read_arrays
from alexnet.cache import cache_folder
from alexnet.console import say, warn
from alexnet.data.fetch import fetch_file
from alexnet.errors import AlexNetError, WeightsError, did_you_mean
from alexnet.network.checkpoint import Network, load_network, misfit, save_network
from alexnet.network.description import ARCHITECTURES, Architecture, Preprocessing
from alexnet.network.header import safetensors_metadata, unreadable
from alexnet.network.model import AlexNet, outline
from alexnet.network.weight_names import (
    OFFICIAL,
    SHIPPED,
    named_weights,
    require_importable,
    require_weights,
    weights_folder,
)
from alexnet.recipes import IMAGENET_MEAN, IMAGENET_STD
from alexnet.values import checked_arguments

# torchvision's documentation of the 2014 network: resize 256, centre crop 224
TORCHVISION = Preprocessing(image_size=256, crop=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)
# BVLC's Caffe networks: 227 of 256 px, pixels from 0 to 255 minus the mean of each channel, which
# is (104, 117, 123) in their order, BGR
CAFFE = Preprocessing(
    image_size=256,
    crop=227,
    mean=(123 / 255, 117 / 255, 104 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
)

BVLC_LAYERS = "conv1 conv2 conv3 conv4 conv5 fc6 fc7 fc8".split()


def find_weights(where: str) -> Network:
    """The network of a name, or of a .safetensors file. A name goes first; ./NAME is the path.

    Raises:
        WeightsError: there is no such thing, or it is damaged.
    """
    known = named_weights()
    if where in known:
        return load_network(known[where])
    require_weights(where)
    return load_network(Path(where).expanduser())


@checked_arguments
def fetch_weights(name: str, url: str = "") -> Path:
    """Fetches official weights, checks the whole file, and keeps them as safetensors.

    Raises:
        WeightsError: an unknown name. InputError: `url` is no address. DownloadError: no
            connection, or not the official file.
    """
    if name not in OFFICIAL:
        raise WeightsError(f"there are no official weights {name!r}.", did_you_mean(name, OFFICIAL))
    if name in named_weights():
        return named_weights()[name]
    file = fetch_file(OFFICIAL[name], cache_folder() / "downloads", url)
    path = import_weights(file, name)
    file.unlink()
    return path


@checked_arguments
def import_weights(file: str | Path, name: str) -> Path:
    """Keeps the weights of a .pth, .safetensors or .npz file under a name; returns their new path.

    The network is recognised by the layers' shapes. Files of other programs do not say how their
    images were prepared: .pth and .safetensors are taken as torchvision's, .npz as BVLC's.

    Raises:
        WeightsError: missing, damaged, of no network of the family, or holding code.
    """
    path = require_importable(file, name)
    network = read_foreign(path)
    if name in OFFICIAL and not is_official(path, name):
        warn(
            f"{path.name} is not the official file of {name} ({OFFICIAL[name].file}): its SHA-256 "
            "is another. What it is worth is for you to know; another name would say so"
        )
    there = named_weights().get(name)
    if there is not None:
        if same_network(load_network(there), network):
            return there
        raise WeightsError(
            f"there are other weights named {name}.",
            "Choose another name" + ("." if name in SHIPPED else f", or delete {there}."),
        )
    target = weights_folder() / f"{name}.safetensors"
    save_network(target, network, source=path.name)
    return target


def is_official(path: Path, name: str) -> bool:
    """Whether a file is the official one of that name, byte for byte."""
    return digest(path, OFFICIAL[name].algorithm) == OFFICIAL[name].checksum


def read_foreign(path: Path) -> Network:
    """The network of a file of ours or of another program."""
    kind = path.suffix.lower()
    if kind == ".safetensors" and "alexnet" in safetensors_metadata(path):
        return load_network(path)
    if kind == ".npz":
        return bvlc_network(path)
    if kind in (".pth", ".pt", ".bin"):
        tensors = read_pth(path)
    elif kind == ".safetensors":
        try:
            tensors = load_file(path)
        except (SafetensorError, ValueError, KeyError) as error:  # KeyError: of a kind of number
            raise unreadable(path, error) from error
    else:
        raise WeightsError(
            f"{path.name} is of a kind that is not known.",
            "Known: .pth (a state dict), .safetensors, and the .npz of BVLC's 2012 network.",
        )
    architecture = recognise(tensors, path.name)
    say(
        f"{path.name}: the {architecture.name} network; taken to expect images as torchvision's "
        f"networks do ({TORCHVISION.crop} of {TORCHVISION.image_size} px, ImageNet's mean and "
        "deviation)"
    )
    # copied now that the shapes are known: a few bytes may be shown as any number of terabytes
    whole = {name: one.contiguous() for name, one in tensors.items()}
    return Network(path, architecture, whole, [], [], TORCHVISION)


def read_pth(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict saved by torch, read under `weights_only`.

    Raises:
        WeightsError: it is cut short, no state dict, or holds code.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if path.read_bytes()[:2] not in (b"PK", b"\x80\x02"):
            raise WeightsError(
                f"{path} is not a file of torch.save.", "Give a .pth that holds a state dict."
            ) from error
        raise WeightsError(
            f"{path} holds more than tensors, which means code that would run when it is read. It "
            "was not read.",
            "Where it comes from a source you trust, convert it with the program that wrote it: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
        ) from error
    except Exception as error:  # of every kind: it is a program for a small machine
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{path} cannot be read ({reason}).", "It is cut short or damaged; get it again."
        ) from error
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not any(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(
            f"{path} holds no state dict.", "Save one: torch.save(model.state_dict(), FILE)"
        )
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }
    for name, one in tensors.items():
        if one.layout != torch.strided or one.is_quantized or one.device.type != "cpu":
            raise WeightsError(
                f"{path}: {name} is sparse, quantised or without values.",
                "Save the state dict of the network as it was trained.",
            )
    return tensors


def recognise(tensors: dict[str, Tensor], where: str) -> Architecture:
    """The network of the family whose layers the tensors fit; the classifier may be missing.

    Raises:
        WeightsError: none; says which layers of the closest one do not fit, and how.
    """
    numbers = [re.fullmatch(r"classifier\.([0-9]{1,3})\.weight", name) for name in tensors]
    last = max((found for found in numbers if found), key=lambda one: int(one[1]), default=None)
    classes = next(iter(tensors[last[0]].shape), 1) if last else 1
    reports = {}
    for architecture in ARCHITECTURES.values():
        own = outline(architecture, classes).state_dict()
        reports[architecture.name] = [
            text
            for text in misfit(own, tensors)
            if not (text.startswith("classifier.") and text.endswith("is missing"))
        ]
        if not reports[architecture.name]:
            return architecture
    closest = min(reports, key=lambda name: len(reports[name]))
    listing = "; ".join(reports[closest][:4])
    raise WeightsError(
        f"{where} is of no network of the family. Against the closest, {closest}: {listing}"
        + ("; and more." if len(reports[closest]) > 4 else "."),
        "Networks: 2012, 2014 (torchvision's alexnet), small, compact, fast, wide.",
    )


def bvlc_network(path: Path) -> Network:
    """BVLC's 2012 network from an .npz of conv1_w ... fc8_b; integers are 128ths.

    Layers of which only the bias is there are left out.
    """
    wanted = [f"{name}_{part}" for name in BVLC_LAYERS for part in "wb"]
    try:
        arrays = read_arrays(path, wanted)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read ({error}).", "It is cut short or damaged; get it again."
        ) from error
    architecture = replace(ARCHITECTURES["2012"], lrn_k=1.0)
    own = outline(architecture, 1000)
    layers = [name for name, one in own.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    tensors: dict[str, Tensor] = {}
    for name, layer in zip(BVLC_LAYERS, layers, strict=True):
        if f"{name}_w" not in arrays:
            continue
        for ours, theirs in (("weight", f"{name}_w"), ("bias", f"{name}_b")):
            if theirs not in arrays:
                raise WeightsError(f"{path} has {name}_w but no {theirs}.", "Get the file again.")
            values = arrays[theirs]
            if values.dtype.kind not in "if":
                raise WeightsError(f"{path}: {theirs} holds no numbers.", "Get the file again.")
            scale = 128 if values.dtype.kind == "i" else 1
            # of an array without dimensions NumPy makes a number
            scaled = np.asarray(values.astype(np.float32) / scale)
            tensors[f"{layer}.{ours}"] = torch.from_numpy(scaled)
    first = f"{layers[0]}.weight"
    if first not in tensors:
        raise WeightsError(
            f"{path} has no conv1_w.",
            "Expected the arrays conv1_w, conv1_b, ... of BVLC's 2012 network.",
        )
    wrong = [text for text in misfit(own.state_dict(), tensors) if "missing" not in text]
    if wrong:
        raise WeightsError(
            f"{path} is not BVLC's 2012 network: {'; '.join(wrong[:4])}.", "Check the file."
        )
    tensors[first] = tensors[first].flip(1).contiguous()  # its input was BGR
    return Network(path, architecture, tensors, [], [], CAFFE)


def same_network(one: Network, other: Network) -> bool:
    """Whether two networks are equal in every number."""
    return (
        one.architecture == other.architecture
        and one.preprocessing == other.preprocessing
        and one.classes == other.classes
        and one.tensors.keys() == other.tensors.keys()
        and all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    )


def carry_over(model: AlexNet, network: Network, classes: Sequence[str]) -> list[str]:
    """Copies weights into a model, from the images upwards as far as they go, and returns the names
    of the layers that start fresh.

    The last layer is copied if its classes are `classes`. The fully connected layers are copied if
    the model has the same ones. Everything above a layer that starts fresh starts fresh too: it was
    trained on what that layer no longer gives.

    Raises:
        WeightsError: a layer that should fit does not; names it, what was expected and found.
    """
    own, mine, theirs = model.state_dict(), model.architecture, network.architecture
    names = list(dict.fromkeys(key.rpartition(".")[0] for key in own))  # layers with weights
    last = names[-1]
    same_classifier = all(
        getattr(mine, field) == getattr(theirs, field)
        for field in ("hidden", "map_side", "map_maximum", "fc_norm")
    )
    taken: dict[str, Tensor] = {}
    fresh: list[str] = []
    for name in names:
        parts = [key for key in own if key.rpartition(".")[0] == name]
        usable = all(key in network.tensors for key in parts)
        if name.startswith("classifier.") and not same_classifier:
            usable = False
        if name == last and list(classes) != network.classes:
            usable = False
        if fresh or not usable:
            fresh.append(name)
        else:
            taken |= {key: network.tensors[key] for key in parts}
    covered = {key: own[key] for key in own if key.rpartition(".")[0] not in fresh}
    wrong = misfit(covered, taken)
    if not any(name.startswith("features.") for name in names if name not in fresh):
        wrong = [f"{names[0]} is missing"]
    if wrong:
        raise WeightsError(
            f"the weights of {network.path} do not fit: {'; '.join(wrong[:6])}"
            + (f"; and {len(wrong) - 6} more." if len(wrong) > 6 else "."),
            "Leave out the flags that change the network (--model, --width, --conv-layers, "
            "--norm): weights know their network.",
        )
    model.load_state_dict(taken, strict=False)
    return fresh


def describe(network: Network) -> str:
    """The network, its layers and its preprocessing, in one line."""
    how = network.preprocessing
    layers = sum(one.ndim > 1 for one in network.tensors.values())
    classes = f"{len(network.classes)} classes" if network.classes else "ImageNet"
    return (
        f"{network.architecture.name} network, {layers} layers, {classes}, {how.crop} of "
        f"{how.image_size} px"
    )


def listing() -> list[tuple[str, str]]:
    """Name and description of the weights on this machine, damaged ones included, and of the
    official ones that could be fetched."""
    found = []
    for name, path in named_weights().items():
        try:
            found.append((name, describe(load_network(path))))
        except AlexNetError as error:
            found.append((name, f"damaged: {error.message}"))
    for name, download in OFFICIAL.items():
        if name not in named_weights():
            size = f"{download.size / 1e6:.0f} MB"
            found.append((name, f"not here; alexnet weights fetch {name} ({size})"))
    return found
