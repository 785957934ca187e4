"""Weights on disk: safetensors with JSON metadata, written whole or not at all. No pickle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from alexnet.atomic import checksum, replacing
from alexnet.data.names import find_class, find_classes
from alexnet.errors import WeightsError
from alexnet.network.description import Architecture, Preprocessing
from alexnet.network.header import VERSION, described, place_of_checksum, read_checked, unreadable
from alexnet.network.model import AlexNet, outline


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Writes tensors and a JSON-ready description, with a checksum of both; afterwards the file is
    the old one or the whole new one.

    Everything is said in one entry of the metadata: safetensors writes several in random order.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    whole = {"version": VERSION, "crc32": "0" * 8, **about}
    data = save(ready, metadata={"alexnet": json.dumps(whole, allow_nan=False)})
    place = place_of_checksum(data)
    with replacing(path) as aside, open(aside, "wb") as file:
        for part in (data[:place], checksum(data, place), data[place + 8 :]):
            file.write(part)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description of a file of `save_tensors`, read into memory: what happens
    to the file later does not matter. Errors as in `read_checked`."""
    data, about = read_checked(path)
    try:
        return load(data), about
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise unreadable(path, error) from error


def misfit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """What is missing, unknown, of another shape, or no fraction where the others are, in words;
    nothing if `tensors` fit `own`."""
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{name} is not a layer of this network" for name in tensors if name not in own]
    wrong += [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    wrong += [
        f"{name} is of {tensors[name].dtype}, expected {own[name].dtype}"
        for name in own
        if name in tensors and tensors[name].is_floating_point() != own[name].is_floating_point()
    ]
    return wrong


def require_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> None:
    """WeightsError if layers are missing, unknown, or of another shape; names them."""
    wrong = misfit(own, tensors)
    if wrong:
        listing = "; ".join(wrong[:6]) + (f"; and {len(wrong) - 6} more" if len(wrong) > 6 else "")
        raise WeightsError(
            f"the weights of {where} do not fit: {listing}.",
            "Use the network and classes they were made for.",
        )


def load_weights(
    model: nn.Module, tensors: dict[str, Tensor], where: str, *, assign: bool = False
) -> None:
    """Copies weights into a model; with `assign` they take the place of its own.

    Raises:
        WeightsError: names the layers that are missing, unknown, or of another shape.
    """
    own = model.state_dict()
    require_fit(own, tensors, where)
    fitting = {name: tensor.to(own[name].dtype) for name, tensor in tensors.items()}
    model.load_state_dict(fitting if assign else tensors, assign=assign)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as named tensors and JSON-ready numbers."""
    state = optimizer.state_dict()["state"]
    tensors = {
        f"{place}.{key}": value
        for place, slots in state.items()
        for key, value in slots.items()
        if isinstance(value, Tensor)
    }
    numbers = {
        f"{place}.{key}": value
        for place, slots in state.items()
        for key, value in slots.items()
        if isinstance(value, (int, float))
    }
    return tensors, numbers


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], numbers: dict[str, Any]
) -> None:
    """The reverse of `optimizer_tensors`.

    Raises:
        ValueError: these are of another optimiser.
    """
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    slots: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *numbers.items()]:
        place, _, key = name.partition(".")
        slots.setdefault(int(place), {})[key] = value
        if isinstance(value, Tensor) and value.ndim and value.shape != parameters[int(place)].shape:
            raise ValueError(f"{key} of parameter {place} is {tuple(value.shape)}")
    optimizer.load_state_dict(
        {"state": slots, "param_groups": optimizer.state_dict()["param_groups"]}
    )


@dataclass(frozen=True)
class Trained:
    """A network with all that is needed to use it."""

    model: AlexNet  # in evaluation mode, float32, on the CPU
    classes: list[str]  # identifiers, in the order of the logits
    names: list[str]  # readable
    preprocessing: Preprocessing

    def label(self, name: str) -> int:
        """The label of a class, by its identifier or its readable name; errors as in
        `find_class`."""
        return find_class(name, self.classes, self.names)

    def labels(self, given: Sequence[str]) -> list[int]:
        """The labels of classes that are given one by one, or several in a word with commas
        between; errors as in `find_class`."""
        return find_classes(given, self.classes, self.names)


@dataclass(frozen=True)
class Network:
    """What a weights file holds. Named weights may lack layers, and class names."""

    path: Path
    architecture: Architecture
    tensors: dict[str, Tensor]
    classes: list[str]
    names: list[str]
    preprocessing: Preprocessing


def save_network(path: Path, network: Network, source: str = "") -> None:
    """Writes a weights file; `source` says where the weights come from."""
    about = {
        "architecture": network.architecture.to_dict(),
        "classes": network.classes,
        "names": network.names,
        "preprocessing": network.preprocessing.to_dict(),
    }
    save_tensors(path, network.tensors, about | ({"source": source} if source else {}))


def load_network(path: Path) -> Network:
    """What a weights file holds.

    Raises:
        WeightsError: the file is damaged.
    """
    tensors, about = load_tensors(path)
    architecture, classes, names, preprocessing = described(about, path)
    return Network(path, architecture, tensors, classes, names, preprocessing)


def load_model(path: Path) -> Trained:
    """The network of a weights file, whole.

    Raises:
        WeightsError: the file is damaged, or has not every layer or no classes.
    """
    network = load_network(path)
    if not network.classes:
        raise WeightsError(
            f"{network.path} is for starting from; it names no classes.",
            "Train on your images with --weights, and use that run.",
        )
    # before it takes memory: a description may ask for more than there is
    shapes = outline(network.architecture, len(network.classes)).state_dict()
    require_fit(shapes, network.tensors, str(network.path))
    model = AlexNet(network.architecture, len(network.classes), init="empty")
    load_weights(model, network.tensors, str(network.path), assign=True)
    return Trained(model.eval(), network.classes, network.names, network.preprocessing)
