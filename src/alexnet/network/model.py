"""All of AlexNet, built from one description: the 2012 two-column network, the 2014 network, the
small-image network.

Shapes: B batch, C H W image, K classes. Sources: Krizhevsky, Sutskever, Hinton, "ImageNet
classification with deep convolutional neural networks" (2012); Krizhevsky, "One weird trick for
parallelizing convolutional neural networks" (2014), whose network torchvision calls `alexnet`.
"""

import dataclasses
import itertools
from collections.abc import Iterator
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
    norm: str = "none"  # none, lrn, batch, batch-for-lrn
    pool: str = "overlapping"  # max and average: 2x2 stride 2; overlapping: max 3x3 stride 2
    activation: str = "relu"  # relu, leaky-relu, tanh
    fc_norm: str = "none"  # batch: batch normalisation of the features and of each hidden layer
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
    base: str | Architecture,
    *,
    conv_layers: int = 0,
    fc_layers: int = 0,
    hidden: int = 0,
    map_side: int = 0,
    width: float = 0.0,
    columns: int = 0,
    norm: str = "auto",
    fc_norm: str = "auto",
    pool: str = "auto",
    activation: str = "auto",
    dropout: float = 0.5,
) -> Architecture:
    """The description of a network of the family. 0 and "auto" leave what `base` has.

    Args:
        base: "2012", "2014" or "small", or the description to start from.
        conv_layers: 3 to 5; without conv4, then without conv3 (the 2012 paper removes middle layers
            too).
        fc_layers: 1 to 4, the last one (the classes) included.
        hidden: units of each hidden layer; `width` does not change this number.
        map_side: side of the averaged map that the fully connected layers see.
        width: factor on the channels and hidden units that the family's network has; they stay
            multiples of 8.
        columns: 1 makes one tower of the two columns of 2012, each of which sees half of the
            channels in conv2, conv4 and conv5.
        norm: "none", "lrn" (after conv1 and conv2), "batch" (after every convolution),
            "batch-for-lrn" (batch normalisation where LRN would be).
        fc_norm: "none", "batch" (of the features and of each hidden layer).
        pool: "max" or "average" (2x2, stride 2), "overlapping" (max 3x3, stride 2).
        activation: "relu", "leaky-relu" or "tanh".
        dropout: share of hidden units dropped while training.

    Raises:
        ModelError: an unknown name, or a number out of range.
    """
    name = base if isinstance(base, str) else base.name
    if name not in ARCHITECTURES:
        raise ModelError(f"unknown network {name!r}.", did_you_mean(name, ARCHITECTURES))
    if conv_layers not in (0, 3, 4, 5) or fc_layers not in (0, 1, 2, 3, 4):
        raise ModelError(
            f"{conv_layers} convolution and {fc_layers} fully connected layers, expected 3 to 5 "
            "and 1 to 4.",
            "Change --conv-layers or --fc-layers.",
        )
    family = ARCHITECTURES[name]
    own = family if isinstance(base, str) else base

    def scaled(units: int) -> int:
        return max(8, round(units * width / 8) * 8) if width else units

    convs = own.convs
    if conv_layers or width:
        left_out = {5: (), 4: (3,), 3: (2, 3)}[conv_layers or len(own.convs)]
        convs = tuple(
            dataclasses.replace(conv, channels=scaled(conv.channels))
            for place, conv in enumerate(family.convs)
            if place not in left_out
        )
    if columns:
        convs = tuple(dataclasses.replace(conv, groups=1) for conv in convs)
    units = own.hidden
    if fc_layers or hidden or width:
        count = fc_layers - 1 if fc_layers else len(own.hidden)
        usual = family.hidden[0] if family.hidden else family.convs[-1].channels
        units = (hidden or scaled(usual),) * count
    return dataclasses.replace(
        own,
        convs=convs,
        hidden=units,
        map_side=map_side or own.map_side,
        norm=own.norm if norm == "auto" else norm,
        fc_norm=own.fc_norm if fc_norm == "auto" else fc_norm,
        pool=own.pool if pool == "auto" else pool,
        activation=own.activation if activation == "auto" else activation,
        dropout=dropout,
    )


class LocalResponseNorm(nn.Module):
    """b = a / (k + alpha / size * sum of a^2 over `size` neighbouring channels) ^ 0.75, as
    `nn.LocalResponseNorm`, several times as fast in both directions."""

    band: Tensor
    k: Tensor

    def __init__(self, channels: int, size: int = 5, alpha: float = 1e-4, k: float = 2.0) -> None:
        super().__init__()
        distance = torch.arange(channels)[:, None] - torch.arange(channels)[None, :]
        band = (distance.abs() <= size // 2).float() * (alpha / size)
        self.register_buffer("band", band[:, :, None, None], persistent=False)  # (C, C, 1, 1)
        self.register_buffer("k", torch.full((channels,), k), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        y: Tensor = _Lrn.apply(x, self.band.to(x.dtype), self.k.to(x.dtype))
        return y

    def extra_repr(self) -> str:
        return f"k={float(self.k[0]):g}"


class _Lrn(torch.autograd.Function):
    """The sum over neighbours is a 1x1 convolution with a band of ones whose bias is k, and 0.75 is
    two reciprocal square roots. On a CPU a few images at a time go through all steps, so that what
    lies between them stays in the cache, and nothing but the input is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, band: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(x, band, k)
        y = torch.empty_like(x)
        for a, out in _few_at_a_time(x, y):
            root = F.conv2d(a * a, band, k).rsqrt_()
            torch.mul(root.mul_(root.sqrt()), a, out=out)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # with s the sum and p = s^-0.75: dx = g p - 1.5 a band(g a p / s); 1.5 is 2 * 0.75
        x, band, k = ctx.saved_tensors
        dx = torch.empty_like(x)
        for a, g, out in _few_at_a_time(x, gradient, dx):
            root = F.conv2d(a * a, band, k).rsqrt_()
            direct = root.mul(root.sqrt()).mul_(g)
            across = F.conv2d(root.mul_(root).mul_(direct).mul_(a), band).mul_(a)
            torch.add(direct, across, alpha=-1.5, out=out)
        return dx, None, None


def _few_at_a_time(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    count = 4 if tensors[0].device.type == "cpu" else len(tensors[0])
    return zip(*(tensor.split(count) for tensor in tensors), strict=True)


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
        rows, columns = self.windows(height, x), self.windows(width, x)
        return torch.matmul(torch.matmul(rows, x), columns.T)

    def extra_repr(self) -> str:
        return f"side={self.side}"

    def windows(self, length: int, like: Tensor) -> Tensor:
        """(side, length): each row averages its window of a map's side."""
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


class Conv2d(nn.Conv2d):
    """Made without values: half a second of random numbers would be spent on a network whose
    weights are read from a file."""

    def reset_parameters(self) -> None:
        pass


class Linear(nn.Linear):
    """Made without values, as `Conv2d`."""

    def reset_parameters(self) -> None:
        pass


class AlexNet(nn.Module):
    """A network of the family: uint8 images, normalised, in; logits out.

    Parameter names of the 2014 network are torchvision's (`features.0.weight` ...
    `classifier.6.bias`). `init` is as for `initialise`; "empty" leaves weights for others to set.
    """

    def __init__(self, architecture: Architecture, classes: int, init: str = "auto") -> None:
        super().__init__()
        self.architecture = architecture
        self.features = nn.Sequential(*_feature_layers(architecture))
        self.avgpool = AdaptiveAverage(architecture.map_side)
        self.classifier = nn.Sequential(*_classifier_layers(architecture, classes))
        if init != "empty":
            initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, K)
        if min(x.shape[-2:]) < self.architecture.smallest_input:
            self.architecture.check_input(min(x.shape[-2:]))
        x = self.avgpool(self.features(x))
        logits: Tensor = self.classifier(torch.flatten(x, 1))
        return logits

    def split(self, freeze: str) -> tuple[nn.Sequential, nn.Sequential]:
        """The frozen part, images (B, 3, H, W) to features (B, D), and the trained part, features
        to logits (B, K); their layers are this network's own.

        "conv" freezes the convolutions, "all-but-last" everything below the last layer. The trained
        part is a slice of `classifier` and keeps its parameter names.
        """
        body: list[nn.Module] = [self.features, self.avgpool, nn.Flatten()]
        if freeze == "conv":
            return nn.Sequential(*body), self.classifier
        return nn.Sequential(*body, *self.classifier[:-1]), self.classifier[-1:]


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
            Conv2d(
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
        if conv.lrn and architecture.norm == "lrn":  # after the non-linearity, as in the paper
            layers.append(LocalResponseNorm(channels, k=architecture.lrn_k))
        if conv.lrn and architecture.norm == "batch-for-lrn":
            layers.append(nn.BatchNorm2d(channels))
        if conv.pool and not architecture.pool_first:
            layers.append(_pool(architecture.pool))
    return layers


def _classifier_layers(architecture: Architecture, classes: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    units = architecture.convs[-1].channels * architecture.map_side**2
    normed = architecture.fc_norm == "batch"
    if normed:
        layers.append(nn.BatchNorm1d(units))
    for hidden in architecture.hidden:
        layer: list[nn.Module] = [Linear(units, hidden)] + [nn.BatchNorm1d(hidden)] * normed
        layer.append(_activation(architecture.activation))
        dropout = nn.Dropout(architecture.dropout)
        layers += [dropout, *layer] if architecture.dropout_first else [*layer, dropout]
        units = hidden
    if not architecture.hidden:  # dropout acts on the features themselves
        layers.append(nn.Dropout(architecture.dropout))
    return [*layers, Linear(units, classes)]


def initialise(model: AlexNet, init: str) -> None:
    """Sets initial weights in place.

    "paper" is N(0, 0.01) with biases of 1 in conv2, conv4, conv5 and the hidden layers, made for
    inputs of 0 to 255; "auto" is He et al. (2015), made for inputs of unit variance; "torch"
    leaves what torch's layers begin with.
    """
    for layer in model.modules():  # the paper's and He's layers, too: it keeps what a seed means
        if isinstance(layer, Conv2d):
            nn.Conv2d.reset_parameters(layer)
        elif isinstance(layer, Linear):
            nn.Linear.reset_parameters(layer)
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
