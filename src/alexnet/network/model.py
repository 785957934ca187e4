"""All of AlexNet, built from one description (`description.Architecture`).

Shapes: B batch, C H W image, K classes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from alexnet.data.store import Rows
from alexnet.network.description import Architecture

TOGETHER = 32  # channels whose neighbours are added by one product


class LocalResponseNorm(nn.Module):
    """b = a / (k + alpha / size * sum of a^2 over `size` neighbouring channels) ^ 0.75, as
    `nn.LocalResponseNorm`, several times as fast in both directions."""

    band: Tensor
    k: Tensor

    def __init__(self, channels: int, size: int = 5, alpha: float = 1e-4, k: float = 2.0) -> None:
        super().__init__()
        # on the meta device these few steps would load a second of torch
        place = torch.arange(channels, device="cpu")
        distance = place[:, None] - place[None, :]
        band = (distance.abs() <= size // 2).float() * (alpha / size)
        self.register_buffer("band", band[:, :, None, None], persistent=False)  # (C, C, 1, 1)
        self.register_buffer("k", torch.full((channels,), k, device="cpu"), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        y: Tensor = _Lrn.apply(x, self.band.to(x.dtype), self.k.to(x.dtype))
        return y

    def extra_repr(self) -> str:
        return f"k={float(self.k[0]):g}"


class _Lrn(torch.autograd.Function):
    """The sum over neighbours is a product with a band of ones, to which k is added, and 0.75 is
    two reciprocal square roots. On a CPU a few images at a time go through all steps, so that what
    lies between them stays in the cache, and nothing but the input is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, band: Tensor, k: Tensor) -> Tensor:
        ctx.save_for_backward(x, band, k)
        y = torch.empty_like(x)
        for a, out in _few_at_a_time(x, y):
            root = _neighbours(a * a, band, k).rsqrt_()
            torch.mul(root.mul_(root.sqrt()), a, out=out)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # with s the sum and p = s^-0.75: dx = g p - 1.5 a band(g a p / s); 1.5 is 2 * 0.75
        x, band, k = ctx.saved_tensors
        dx = torch.empty_like(x)
        for a, g, out in _few_at_a_time(x, gradient, dx):
            root = _neighbours(a * a, band, k).rsqrt_()
            direct = root.mul(root.sqrt()).mul_(g)
            across = _neighbours(root.mul_(root).mul_(direct).mul_(a), band).mul_(a)
            torch.add(direct, across, alpha=-1.5, out=out)
        return dx, None, None


def _neighbours(x: Tensor, band: Tensor, k: Tensor | None = None) -> Tensor:
    """x (B, C, H, W) with, for each channel, the sum of those that the band (C, C, 1, 1) has near
    it, and k (C,) added. On a CPU not the whole band, most of which is zeros, but for some channels
    those that are near to one of them."""
    if x.device.type != "cpu":
        return F.conv2d(x, band, k)
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    found, weights = torch.empty_like(rows), band[:, :, 0, 0].T
    reach = int(weights[0].count_nonzero()) - 1
    for start in range(0, channels, TOGETHER):
        own = slice(start, min(channels, start + TOGETHER))
        near = slice(max(0, start - reach), min(channels, own.stop + reach))
        if k is None:
            torch.mm(rows[:, near], weights[near, own], out=found[:, own])
        else:
            torch.addmm(k[own], rows[:, near], weights[near, own], out=found[:, own])
    return found.view(batch, height, width, channels).permute(0, 3, 1, 2)


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


class AverageAndMaximum(nn.Module):
    """(B, C, H, W) -> (B, C * side^2 + C): the average of a map, and beside it the maximum of each
    channel: how much of something there is, and whether there is any."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.average = AdaptiveAverage(side)

    def forward(self, x: Tensor) -> Tensor:
        # as tiny products the average takes a seventh of a step of the fast network; networks of
        # 0.1.0 keep them, since the mean adds up in another order
        average = x.mean((2, 3)) if self.average.side == 1 else self.average(x).flatten(1)
        return torch.cat([average, x.amax((2, 3))], 1)


class MeanImage(nn.Module):
    """Subtracts the mean of the training images, pixel by pixel: as in the paper's own code, its
    centre from whatever window of an image."""

    image: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("image", torch.zeros(3, side, side))

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, S, S)
        return x - self.image

    def extra_repr(self) -> str:
        return f"side={self.image.shape[-1]}"


class Whitening(nn.Module):
    """A fixed first layer, taken from the training images: how far each patch of `side` px goes
    along each principal axis of all patches, in standard deviations, in either direction. What
    comes after sees values of one size that do not vary together (Page, "How to train your ResNet",
    2018; Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024)."""

    weight: Tensor

    def __init__(self, side: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        # as if images were white already; on the meta device this would load a second of torch
        axes = torch.eye(3 * side**2, device="cpu").view(-1, 3, side, side)
        self.register_buffer("weight", torch.cat([axes, -axes]))

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, S, S) -> (B, 6 side^2, s, s)
        return F.relu(F.conv2d(x, self.weight, stride=self.stride), inplace=True)

    def extra_repr(self) -> str:
        return f"side={self.weight.shape[-1]}, stride={self.stride}"


class Conv2d(nn.Conv2d):
    """Made without values: half a second of random numbers would be spent on a network whose
    weights are read from a file."""

    def reset_parameters(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        pads = [size // 2 if size % 2 else None for size in self.kernel_size]
        whole = self.stride == (1, 1) and list(self.padding) == pads
        if self.training and x.is_cpu and x.dtype is torch.bfloat16 and whole and x.shape[-1] <= 8:
            return self._side_by_side(x, self.kernel_size[1] // 2)
        return super().forward(x)

    def _side_by_side(self, x: Tensor, gap: int) -> Tensor:
        """The same of several small maps as one wide one, with zeros between. oneDNN sums a
        weight's gradient 32 values of a row at a time, however short the row is."""
        count, width = len(x), x.shape[-1]
        beside = max(1, 32 // (width + gap))
        if count % beside:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, 0, -count % beside))
        maps = x.permute(0, 2, 3, 1).unflatten(0, (-1, beside)).transpose(1, 2)  # (n, H, m, W, C)
        wide = F.pad(maps, (0, 0, 0, gap)).flatten(2, 3).permute(0, 3, 1, 2)
        wide = self._conv_forward(wide, self.weight, self.bias)
        found = wide.permute(0, 2, 3, 1).unflatten(2, (beside, -1))[..., :width, :]
        alone: Tensor = found.transpose(1, 2).flatten(0, 1)[:count].permute(0, 3, 1, 2)
        return alone


class Linear(nn.Linear):
    """Made without values, as `Conv2d`."""

    def reset_parameters(self) -> None:
        pass


class Dropout(nn.Dropout):
    """For the rows of a shard it drops what it drops of them in the whole batch."""

    # while training on shards: of which batch they are, and what is drawn from
    rows: Rows | None = None
    generator: Generator | None = None

    def forward(self, x: Tensor) -> Tensor:  # (B, ...)
        if self.rows is None or not (self.training and self.p):
            return super().forward(x)
        kept = x.new_empty(self.rows.of, *x.shape[1:])
        kept.bernoulli_(1 - self.p, generator=self.generator).div_(1 - self.p)
        return x * kept[self.rows.start : self.rows.stop]


def drops_for(model: nn.Module, rows: Rows | None, generator: Generator | None = None) -> None:
    """From here on the dropout of a network drops for these rows of a batch."""
    for layer in model.modules():
        if isinstance(layer, Dropout):
            layer.rows, layer.generator = rows, generator


class _Summed(torch.autograd.Function):
    """The sum of a vector over all shards, whose gradient is that of all shards, too."""

    @staticmethod
    def forward(ctx: Any, vector: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.total = total
        return total(vector)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.total(gradients[0]), None


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Looks at all of a batch, or while training on shards at this one only, unless it is given
    what adds up over them."""

    total: Callable[[Tensor], Tensor] | None = None  # (P,) of this shard -> (P,) of all
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...)
        if self.total is None or not self.training:
            return super().forward(x)
        rows, dims = x.float(), [0, *range(2, x.ndim)]

        def whole(value: Tensor) -> Tensor:
            found: Tensor = _Summed.apply(value, self.total)
            return found

        def of_channels(value: Tensor) -> Tensor:
            return value.view(-1, *[1] * (x.ndim - 2))

        values = rows.new_full((1,), rows.numel() / rows.shape[1])
        total = whole(torch.cat([rows.sum(dims), values]))
        mean, count = total[:-1] / total[-1], total[-1]
        away = rows - of_channels(mean)
        variance = whole(away.square().sum(dims)) / count  # in a second pass: differences are exact
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (away * of_channels(scale) + of_channels(self.bias)).to(x.dtype)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    pass


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    pass


def normalises_over(model: nn.Module, total: Callable[[Tensor], Tensor] | None) -> None:
    """From here on batch normalisation of a network in training looks at all shards that `total`
    adds up over."""
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.total = total


class AlexNet(nn.Module):
    """A network of the family: uint8 images, normalised, in; logits out.

    Parameter names of the 2014 network are torchvision's (`features.0.weight` ...
    `classifier.6.bias`). `init` is as for `initialise`; "empty" leaves weights for others to set.
    """

    def __init__(self, architecture: Architecture, classes: int, init: str = "he") -> None:
        super().__init__()
        self.architecture = architecture
        self.features = nn.Sequential()
        if architecture.mean_image:
            self.features.add_module("mean", MeanImage(architecture.mean_image))
        if architecture.whitening:
            whitening = Whitening(architecture.whitening, architecture.whitening_stride)
            self.features.add_module("whitening", whitening)
        for number, layer in enumerate(_feature_layers(architecture)):
            self.features.add_module(str(number), layer)
        self.avgpool: AdaptiveAverage | AverageAndMaximum = (
            AverageAndMaximum(architecture.map_side)
            if architecture.map_maximum
            else AdaptiveAverage(architecture.map_side)
        )
        self.classifier = nn.Sequential(*_classifier_layers(architecture, classes))
        if init != "empty":
            initialise(self, init)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, K)
        if min(x.shape[-2:]) < self.architecture.smallest_input:
            self.architecture.check_input(min(x.shape[-2:]))
        return self.classify(self.features(x))

    def classify(self, maps: Tensor) -> Tensor:
        """Logits (B, K) of what the convolutions give, (B, C, h, w)."""
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(maps), 1))
        return logits

    @property
    def descriptor_width(self) -> int:
        """2C."""
        return 2 * self.architecture.convs[-1].channels

    def descriptor(self, pooled: Tensor) -> Tensor:
        """What of an image is compared with others (B, 2C), of what goes into the fully connected
        layers, (B, D): the mean of each channel of the last map and its maximum, each of length
        1."""
        channels, places = self.architecture.convs[-1].channels, self.architecture.map_side**2
        maps = pooled[:, : channels * places].reshape(-1, channels, places)
        tops = pooled[:, channels * places :] if self.architecture.map_maximum else maps.amax(2)
        return torch.cat([F.normalize(maps.mean(2)), F.normalize(tops)], 1)

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


def outline(architecture: Architecture, classes: int) -> AlexNet:
    """A network without values, and so without memory: names and shapes of its layers."""
    with torch.device("meta"):
        return AlexNet(architecture, classes, init="empty")


def _activation(name: str) -> nn.Module:
    kinds: dict[str, type[nn.Module]]
    kinds = {"relu": nn.ReLU, "leaky-relu": nn.LeakyReLU, "tanh": nn.Tanh}
    return kinds[name]()


def _pool(name: str) -> nn.Module:
    kinds = {"overlapping": nn.MaxPool2d(3, 2), "max": nn.MaxPool2d(2), "average": nn.AvgPool2d(2)}
    return kinds[name]


def _feature_layers(architecture: Architecture) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 6 * architecture.whitening**2 or 3
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
        for step in architecture.after(conv):
            if step == "pool":
                layers.append(_pool(architecture.pool))
            elif step == "batch":
                layers.append(BatchNorm2d(channels))
            elif step == "lrn":
                layers.append(LocalResponseNorm(channels, k=architecture.lrn_k))
            else:
                layers.append(_activation(architecture.activation))
    return layers


def _classifier_layers(architecture: Architecture, classes: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    pooled = architecture.map_side**2 + architecture.map_maximum
    units = architecture.convs[-1].channels * pooled
    normed = architecture.fc_norm == "batch"
    if normed:
        layers.append(BatchNorm1d(units))
    for hidden in architecture.hidden:
        layer: list[nn.Module] = [Linear(units, hidden)] + [BatchNorm1d(hidden)] * normed
        layer.append(_activation(architecture.activation))
        dropout = Dropout(architecture.dropout)
        layers += [dropout, *layer] if architecture.dropout_first else [*layer, dropout]
        units = hidden
    if not architecture.hidden:  # dropout acts on the features themselves
        layers.append(Dropout(architecture.dropout))
    return [*layers, Linear(units, classes)]


def initialise(model: AlexNet, init: str) -> None:
    """Sets initial weights in place.

    "paper" is N(0, 0.01) with biases of 1 in conv2, conv4, conv5 and the hidden layers, made for
    inputs of 0 to 255 (the paper's own code has 0.03 instead of 0.01 in conv3 to conv5); "he" is
    He et al. (2015), made for inputs of unit variance; "torch" leaves what torch's layers begin
    with.
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
