"""All of AlexNet, built from one description: the 2012 two-column network, the 2014 network, the
small-image network.

Shapes: B batch, C H W image, K classes. Sources: Krizhevsky, Sutskever, Hinton, "ImageNet
classification with deep convolutional neural networks" (2012); Krizhevsky, "One weird trick for
parallelizing convolutional neural networks" (2014), whose network torchvision calls `alexnet`.
"""

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.errors import ModelError, did_you_mean


@dataclass(frozen=True)
class Conv:
    """One convolution layer of a description, and what follows it."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1  # 2: the two columns of 2012, which meet at conv3 only
    lrn: bool = False  # local response normalisation follows, in networks normalised by it
    pool: bool = False  # pooling follows
    paper_bias: float = 0.0  # initial bias in the 2012 paper


@dataclass(frozen=True)
class Architecture:
    """The description of a network. `name` is for people; everything else decides shapes and
    arithmetic."""

    name: str
    convs: tuple[Conv, ...]
    hidden: tuple[int, ...]  # units of the fully connected layers before the last
    map_side: int  # the last feature map is averaged to this side before the fully connected layers
    norm: str = "none"  # none, lrn, batch
    pool: str = "overlapping"  # max and average: 2x2 stride 2; overlapping: max 3x3 stride 2
    activation: str = "relu"  # relu, leaky-relu, tanh
    dropout: float = 0.5  # of hidden units; of the features where there is no hidden layer
    dropout_first: bool = False  # before each hidden layer (2014) instead of after it (2012)
    # pooling before normalisation and non-linearity, not after: batch norm then goes through a
    # quarter of the values, and max pooling commutes with the rest wherever gamma is positive
    pool_first: bool = False
    lrn_k: float = 2.0  # the additive constant of LRN; 1 in Caffe's copy of the network

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for the metadata of a weights file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Architecture":
        convs = tuple(Conv(**conv) for conv in fields["convs"])
        return cls(**{**fields, "convs": convs, "hidden": tuple(fields["hidden"])})

    def feature_side(self, side: int) -> int:
        """Side of the last feature map for input images of `side` px, before it is averaged; 0 if
        nothing is left."""
        for conv in self.convs:
            side = (side + 2 * conv.padding - conv.kernel) // conv.stride + 1
            if conv.pool:
                side = (side - 3) // 2 + 1 if self.pool == "overlapping" else side // 2
            if side < 1:
                return 0
        return side

    @property
    def smallest_input(self) -> int:
        """The smallest side in px of an input image."""
        return next(side for side in itertools.count(1) if self.feature_side(side))

    def check_input(self, side: int) -> None:
        """ModelError if images of `side` px are too small for this network."""
        if side < self.smallest_input:
            raise ModelError(
                f"images of {side} px are too small for the {self.name} network, which needs "
                f"{self.smallest_input} px.",
                f"Use --image-size {self.smallest_input} or more (and --crop likewise)"
                + (", or --model small." if self.name != "small" else ", or --pool max."),
            )


ARCHITECTURES = {
    "2012": Architecture(
        name="2012",
        convs=(
            Conv(96, 11, stride=4, lrn=True, pool=True),  # 227 -> 55 -> 27
            Conv(256, 5, padding=2, groups=2, lrn=True, pool=True, paper_bias=1.0),  # 27 -> 13
            Conv(384, 3, padding=1),
            Conv(384, 3, padding=1, groups=2, paper_bias=1.0),
            Conv(256, 3, padding=1, groups=2, pool=True, paper_bias=1.0),  # 13 -> 6
        ),
        hidden=(4096, 4096),
        map_side=6,
        norm="lrn",
    ),
    "2014": Architecture(
        name="2014",
        convs=(
            Conv(64, 11, stride=4, padding=2, lrn=True, pool=True),  # 224 -> 55 -> 27
            Conv(192, 5, padding=2, lrn=True, pool=True, paper_bias=1.0),  # 27 -> 13
            Conv(384, 3, padding=1),
            Conv(256, 3, padding=1, paper_bias=1.0),
            Conv(256, 3, padding=1, pool=True, paper_bias=1.0),  # 13 -> 6
        ),
        hidden=(4096, 4096),
        map_side=6,
        dropout_first=True,
    ),
    "small": Architecture(
        name="small",
        convs=(
            Conv(64, 3, padding=1, lrn=True, pool=True),  # 32 -> 15
            Conv(128, 3, padding=1, lrn=True, pool=True, paper_bias=1.0),  # 15 -> 7
            Conv(256, 3, padding=1),
            Conv(256, 3, padding=1, pool=True, paper_bias=1.0),  # 7 -> 3
            Conv(512, 3, padding=1, pool=True, paper_bias=1.0),  # 3 -> 1
        ),
        hidden=(),
        map_side=1,
        norm="batch",
        pool_first=True,
    ),
}


def architecture(
    model: str,
    *,
    conv_layers: int = 5,
    fc_layers: int = 0,
    width: float = 1.0,
    norm: str = "auto",
    pool: str = "auto",
    activation: str = "relu",
    dropout: float = 0.5,
) -> Architecture:
    """The description of a network of the family.

    Args:
        model: "2012", "2014" or "small".
        conv_layers: 3 to 5; without conv4, then without conv3 (the 2012 paper removes middle layers
            too).
        fc_layers: 1 to 4, the last one (the classes) included; 0 for as many as the network has by
            itself.
        width: factor on channels and hidden units, which stay multiples of 8.
        norm: "none", "lrn" (after conv1 and conv2), "batch" (after every convolution), or "auto",
            the network's own.
        pool: "max" or "average" (2x2, stride 2), "overlapping" (max 3x3, stride 2), or "auto".
        activation: "relu", "leaky-relu" or "tanh".
        dropout: share of hidden units dropped while training.

    Raises:
        ModelError: an unknown name, or a number out of range.
    """
    if model not in ARCHITECTURES:
        raise ModelError(f"unknown network {model!r}.", did_you_mean(model, ARCHITECTURES))
    if conv_layers not in (3, 4, 5) or fc_layers not in (0, 1, 2, 3, 4):
        raise ModelError(
            f"{conv_layers} convolution and {fc_layers} fully connected layers, expected 3 to 5 "
            "and 1 to 4.",
            "Change --conv-layers or --fc-layers.",
        )
    own = ARCHITECTURES[model]
    kept = [
        conv
        for place, conv in enumerate(own.convs)
        if place not in {5: (), 4: (3,), 3: (2, 3)}[conv_layers]
    ]

    def scaled(units: int) -> int:
        return max(8, round(units * width / 8) * 8)

    units = own.hidden[0] if own.hidden else own.convs[-1].channels
    hidden = own.hidden if not fc_layers else (units,) * (fc_layers - 1)
    return dataclasses.replace(
        own,
        convs=tuple(dataclasses.replace(conv, channels=scaled(conv.channels)) for conv in kept),
        hidden=tuple(scaled(units) for units in hidden),
        norm=own.norm if norm == "auto" else norm,
        pool=own.pool if pool == "auto" else pool,
        activation=activation,
        dropout=dropout,
    )


class LocalResponseNorm(nn.Module):
    """b = a / (k + alpha / size * sum of a^2 over `size` neighbouring channels) ^ 0.75, as
    `nn.LocalResponseNorm`.

    The sum over neighbours is a 1x1 convolution with a band of ones, which the hardware does
    several times faster than the built-in's pooling; beta = 0.75 is two reciprocal square roots.
    """

    band: Tensor

    def __init__(self, channels: int, size: int = 5, alpha: float = 1e-4, k: float = 2.0) -> None:
        super().__init__()
        self.k = k
        distance = torch.arange(channels)[:, None] - torch.arange(channels)[None, :]
        band = (distance.abs() <= size // 2).float() * (alpha / size)
        self.register_buffer("band", band[:, :, None, None], persistent=False)  # (C, C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        root = torch.rsqrt(F.conv2d(x * x, self.band) + self.k)
        return x * (root * root.sqrt()).to(x.dtype)


class AdaptiveAverage(nn.Module):
    """`nn.AdaptiveAvgPool2d(side)` as two matrix products: the same numbers, and a backward pass
    that repeats bit for bit on CUDA, which the built-in's does not."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, side, side)
        height, width = x.shape[-2:]
        if height == width == self.side:
            return x
        rows, columns = self._windows(height, x), self._windows(width, x)
        return torch.matmul(torch.matmul(rows, x), columns.T)

    def _windows(
        self, length: int, like: Tensor
    ) -> Tensor:  # (side, length), each row averages its window
        place, window = (
            torch.arange(length, device=like.device),
            torch.arange(self.side, device=like.device)[:, None],
        )
        start, end = (
            window * length // self.side,
            ((window + 1) * length + self.side - 1) // self.side,
        )
        inside = (place >= start) & (place < end)
        return (inside / inside.sum(1, keepdim=True)).to(like.dtype)


class AlexNet(nn.Module):
    """A network of the family: uint8 images, normalised, in; logits out.

    Parameter names of the 2014 network are torchvision's (`features.0.weight` ...
    `classifier.6.bias`).
    """

    def __init__(self, architecture: Architecture, classes: int, init: str = "auto") -> None:
        super().__init__()
        self.architecture = architecture
        self.features = nn.Sequential(*_feature_layers(architecture))
        self.avgpool = AdaptiveAverage(architecture.map_side)
        self.classifier = nn.Sequential(*_classifier_layers(architecture, classes))
        initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, K)
        if min(x.shape[-2:]) < self.architecture.smallest_input:
            self.architecture.check_input(min(x.shape[-2:]))
        x = self.avgpool(self.features(x))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits


def _activation(name: str) -> nn.Module:
    kinds: dict[str, type[nn.Module]]
    kinds = {"relu": nn.ReLU, "leaky-relu": nn.LeakyReLU, "tanh": nn.Tanh}
    return kinds[name]()


def _pool(name: str) -> nn.Module:
    kinds = {"overlapping": nn.MaxPool2d(3, 2), "max": nn.MaxPool2d(2), "average": nn.AvgPool2d(2)}
    return kinds[name]


def _feature_layers(architecture: Architecture) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for conv in architecture.convs:
        layers.append(
            nn.Conv2d(
                channels,
                conv.channels,
                conv.kernel,
                conv.stride,
                conv.padding,
                groups=conv.groups,
                bias=architecture.norm != "batch",
            )
        )
        channels = conv.channels
        if conv.pool and architecture.pool_first:
            layers.append(_pool(architecture.pool))
        if architecture.norm == "batch":
            layers.append(nn.BatchNorm2d(channels))
        layers.append(_activation(architecture.activation))
        if (
            architecture.norm == "lrn" and conv.lrn
        ):  # after the non-linearity, as in the paper's text
            layers.append(LocalResponseNorm(channels, k=architecture.lrn_k))
        if conv.pool and not architecture.pool_first:
            layers.append(_pool(architecture.pool))
    return layers


def _classifier_layers(architecture: Architecture, classes: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    units = architecture.convs[-1].channels * architecture.map_side**2
    for hidden in architecture.hidden:
        layer = [nn.Linear(units, hidden), _activation(architecture.activation)]
        dropout = nn.Dropout(architecture.dropout)
        layers += [dropout, *layer] if architecture.dropout_first else [*layer, dropout]
        units = hidden
    if not layers:  # nothing hidden: dropout acts on the features themselves
        layers.append(nn.Dropout(architecture.dropout))
    return [*layers, nn.Linear(units, classes)]


def initialise(model: AlexNet, init: str) -> None:
    """Sets initial weights in place.

    "paper" is N(0, 0.01) with biases of 1 in conv2, conv4, conv5 and the hidden layers, made for
    inputs of 0 to 255; "auto" is He et al. (2015), made for inputs of unit variance; "torch"
    leaves what torch's layers begin with.
    """
    if init == "torch":
        return
    biases = [conv.paper_bias for conv in model.architecture.convs]
    biases += [1.0] * len(model.architecture.hidden) + [0.0]
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, bias in zip(layers, biases, strict=True):
        if init == "paper":
            nn.init.normal_(layer.weight, std=0.01)
        else:
            last = layer is layers[-1]
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if last else "relu")
        if layer.bias is not None:
            nn.init.constant_(layer.bias, bias if init == "paper" else 0.0)


def parameter_count(model: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters())
