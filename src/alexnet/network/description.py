"""What a network of the family is, and what happens to an image before it sees it: plain data, no
torch.

Sources: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural
networks" (2012); Krizhevsky, "One weird trick for parallelizing convolutional neural networks"
(2014), whose network torchvision calls `alexnet`.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from alexnet.errors import InputError, ModelError, did_you_mean
from alexnet.values import Between, Positive, checked

Units = Annotated[int, Between(1, 65536)]
Channels = Annotated[int, Between(1, 4096)]  # the families have 384, at most 8 times as wide
Side = Annotated[int, Between(1, 2048)]  # px
Read = TypeVar("Read")


@dataclass(frozen=True)
class Conv:
    """One convolution layer of a description, and what follows it."""

    channels: Channels
    kernel: Side
    stride: Side = 1
    padding: Annotated[int, Between(0, 2048)] = 0
    groups: Channels = 1  # 2: the two columns of 2012, which meet at conv3 only
    lrn: bool = False  # local response normalisation follows, in networks normalised by it
    pool: bool = False  # pooling follows
    paper_bias: float = 0.0  # initial bias in the 2012 paper


@dataclass(frozen=True)
class Architecture:
    """The description of a network. `name` is for people; everything else decides shapes and
    arithmetic."""

    name: str
    convs: tuple[Conv, ...]
    hidden: tuple[Units, ...]  # of the fully connected layers before the last
    # the last feature map is averaged to this side before the fully connected layers
    map_side: Side
    norm: Literal["none", "lrn", "batch", "batch-for-lrn"] = "none"
    # max and average: 2x2 stride 2; overlapping: max 3x3 stride 2
    pool: Literal["max", "average", "overlapping"] = "overlapping"
    activation: Literal["relu", "leaky-relu", "tanh"] = "relu"
    # batch: batch normalisation of the features and of each hidden layer
    fc_norm: Literal["none", "batch"] = "none"
    # of hidden units; of the features where there is no hidden layer
    dropout: Annotated[float, Between(0, 1)] = 0.5
    dropout_first: bool = False  # before each hidden layer (2014) instead of after it (2012)
    # pooling before normalisation and non-linearity, not after: batch norm then goes through a
    # quarter of the values, and max pooling commutes with the rest wherever gamma is positive
    pool_first: bool = False
    lrn_k: float = 2.0  # the additive constant of LRN; 1 in Caffe's copy of the network
    # side in px of a mean image of its own, which it subtracts before anything else; 0: it has none
    mean_image: Annotated[int, Between(0, 2048)] = 0
    map_maximum: bool = False  # the maximum of each channel of the last map goes beside the average
    # side in px of the patches that a fixed first layer whitens (`model.Whitening`); 0: none
    whitening: Annotated[int, Between(0, 16)] = 0
    whitening_stride: Annotated[int, Between(1, 16)] = 1  # px from one patch to the next

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for the metadata of a weights file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Any) -> "Architecture":
        """The reverse of `to_dict`.

        Raises:
            ValueError: it describes no network.
        """
        if not isinstance(fields, dict) or not isinstance(fields.get("convs"), list):
            raise ValueError("there are no convolutions")
        convs = [_read(Conv, conv) for conv in fields["convs"]]
        inputs = [3, *(conv.channels for conv in convs)]
        for conv, channels in zip(convs, inputs, strict=False):
            if channels % conv.groups or conv.channels % conv.groups or conv.padding > conv.kernel:
                raise ValueError(f"{channels} channels do not fit {conv}")
        if not convs:
            raise ValueError("there are no convolutions")
        return _read(cls, {**fields, "convs": convs})

    @property
    def pool_kernel(self) -> int:
        """Side of the window of a pooling layer, whose stride is 2."""
        return 3 if self.pool == "overlapping" else 2

    def after(self, conv: Conv) -> list[str]:
        """What follows a convolution, in order: "pool", "batch" (normalisation), "activation",
        "lrn"."""
        steps = ["batch"] * (self.norm == "batch") + ["activation"]
        if conv.lrn and self.norm == "lrn":  # after the non-linearity, as in the paper
            steps.append("lrn")
        if conv.lrn and self.norm == "batch-for-lrn":
            steps.append("batch")
        pool = ["pool"] * conv.pool
        return [*pool, *steps] if self.pool_first else [*steps, *pool]

    def feature_side(self, side: int) -> int:
        """Side of the last feature map for input images of `side` px, before it is averaged; 0 if
        nothing is left."""
        sides = [found for _, found in self._steps(side)]
        return sides[-1] if min(sides) > 0 else 0

    def _steps(self, side: int) -> Iterator[tuple[str, int]]:
        """The convolutions and what follows each, in order, with the side of the map after it for
        input images of `side` px; below 1 where nothing is left."""
        if self.whitening:
            side = (side - self.whitening) // self.whitening_stride + 1
            yield "whitening", side
        for conv in self.convs:
            side = (side + 2 * conv.padding - conv.kernel) // conv.stride + 1
            yield "conv", side
            for step in self.after(conv):
                if step == "pool":
                    side = (side - self.pool_kernel) // 2 + 1
                yield step, side

    def least_normalised(self, side: int, head_alone: bool = False) -> int:
        """How many values of a channel batch normalisation sees of one image of `side` px where it
        sees the fewest; 0 without it. Of one value in a batch of one image nothing is left.

        Args:
            head_alone: of the fully connected layers, whose maps are single values.
        """
        found = [1] if self.fc_norm == "batch" else []
        if not head_alone:
            found += [side**2 for step, side in self._steps(side) if step == "batch"]
        return min(found, default=0)

    @property
    def columns(self) -> Literal[1, 2, "unlinked"]:
        """Into how many columns the convolutions are divided; "unlinked" are two of which no layer
        after the first sees both."""
        groups = {conv.groups for conv in self.convs[1:]}
        if groups <= {1}:
            return 1
        return 2 if 1 in groups else "unlinked"

    @property
    def smallest_input(self) -> int:
        """The smallest side in px of an input image."""
        return next(side for side in itertools.count(1) if self.feature_side(side))

    @property
    def fitting_input(self) -> int:
        """The smallest side in px of an input image whose last map is as large as the fully
        connected layers take it: 227 for 2012, 223 for 2014."""
        return next(side for side in itertools.count(1) if self.feature_side(side) >= self.map_side)

    def blends(self, side: int) -> bool:
        """Whether averaging the last map of images of `side` px blends values that it has fewer of
        than the fully connected layers take. (A map whose side divides theirs is repeated.)"""
        found = self.feature_side(side)
        return found < self.map_side and self.map_side % found > 0

    def check_input(self, side: int) -> None:
        """ModelError if this network cannot take images of `side` px."""
        if self.mean_image not in (0, side):
            raise ModelError(
                f"images of {side} px are not of the size of the mean image that this network "
                f"subtracts, {self.mean_image} px.",
                f"Use --crop {self.mean_image}, or --mean RED GREEN BLUE.",
            )
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
    "compact": Architecture(
        name="compact",
        convs=(
            Conv(64, 7, stride=2, padding=3, lrn=True, pool=True),  # 64 -> 32 -> 15
            Conv(128, 3, padding=1, lrn=True, pool=True, paper_bias=1.0),  # 15 -> 7
            Conv(192, 3, padding=1),
            Conv(288, 3, padding=1, paper_bias=1.0),
            Conv(384, 3, padding=1, paper_bias=1.0),  # 7
        ),
        hidden=(),
        map_side=1,
        norm="batch",
        pool_first=True,
        map_maximum=True,
    ),
    "fast": Architecture(
        name="fast",
        convs=(
            Conv(64, 3, lrn=True),  # 32 -> 15 (whitened) -> 13
            Conv(96, 3, padding=1, lrn=True, pool=True, paper_bias=1.0),  # 13 -> 6
            Conv(128, 3, padding=1),
            Conv(192, 3, padding=1, pool=True, paper_bias=1.0),  # 6 -> 3
            Conv(256, 3, padding=1, paper_bias=1.0),  # 3
        ),
        hidden=(),
        map_side=1,
        norm="batch",
        pool="max",
        pool_first=True,
        map_maximum=True,
        whitening=3,
        whitening_stride=2,
    ),
    "wide": Architecture(
        name="wide",
        convs=(
            Conv(64, 3, lrn=True, pool=True),  # 32 -> 30 (whitened) -> 28 -> 14
            Conv(256, 3, padding=1, lrn=True, pool=True, paper_bias=1.0),  # 14 -> 7
            Conv(256, 3, padding=1),
            Conv(256, 3, padding=1, paper_bias=1.0),
            Conv(384, 3, padding=1, pool=True, paper_bias=1.0),  # 7 -> 3
        ),
        hidden=(),
        map_side=1,
        norm="batch",
        pool="max",
        pool_first=True,
        map_maximum=True,
        whitening=3,
    ),
}


def architecture(
    base: str | Architecture,
    *,
    conv_layers: int | None = None,
    fc_layers: int | None = None,
    hidden: int | None = None,
    width: float | None = None,
    columns: int | str | None = None,
    map_side: int | None = None,
    norm: str | None = None,
    fc_norm: str | None = None,
    pool: str | None = None,
    activation: str | None = None,
    dropout: float | None = None,
) -> Architecture:
    """The description of a network of the family, changed where something is given.

    Args:
        base: "2012", "2014", "small", "compact", "fast" or "wide", or the description to start
            from.
        conv_layers: 3 to 5; without conv4, then without conv3 (the 2012 paper removes middle layers
            too).
        fc_layers: 1 to 4, the last one (the classes) included.
        hidden: units of each hidden layer; `width` does not change this number.
        width: factor on the channels and hidden units that the family's network has; they stay
            multiples of 8.
        columns: 1 makes one tower of the two columns of 2012, each of which sees half of the
            channels in conv2, conv4 and conv5; "unlinked" lets them do so in conv3, too. A tower
            stays one.
        map_side, norm, fc_norm, pool, activation, dropout: as the fields of `Architecture`.

    Raises:
        ModelError: an unknown name, or a number out of range.
    """
    name = base if isinstance(base, str) else base.name
    if name not in ARCHITECTURES:
        raise ModelError(f"unknown network {name!r}.", did_you_mean(name, ARCHITECTURES))
    if conv_layers not in (None, 3, 4, 5) or fc_layers not in (None, 1, 2, 3, 4):
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
    if columns in (1, "unlinked"):
        groups = 1 if columns == 1 else max(conv.groups for conv in convs)
        rest = (dataclasses.replace(conv, groups=groups) for conv in convs[1:])
        convs = (convs[0], *rest)
    units = own.hidden
    if fc_layers or hidden or width:
        count = fc_layers - 1 if fc_layers else len(own.hidden)
        usual = family.hidden[0] if family.hidden else family.convs[-1].channels
        units = (hidden or scaled(usual),) * count
    changes = {
        "map_side": map_side, "norm": norm, "fc_norm": fc_norm, "pool": pool,
        "activation": activation, "dropout": dropout,
    }  # fmt: skip
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(own, convs=convs, hidden=units, **given)


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image before the network sees it; part of the weights."""

    image_size: Side  # the shorter side is scaled to this many px
    crop: Side  # the centre square the network sees, px
    mean: tuple[float, ...]  # per channel, RGB, pixels 0 to 1
    std: tuple[Annotated[float, Positive], ...]
    # averaged; 2: the mirror image too, 10: the corners too
    views: Annotated[int, Between(1, 10)] = 1
    # px of black around the scaled image, before the crop
    border: Annotated[int, Between(0, 2048)] = 0
    # the value of pixels of more than 8 bits that becomes white; 0 where no image had such pixels
    range: Annotated[int, Between(0, 2**32)] = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; without a range that no image had, as release 0.1.0 wrote it."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name != "range" or value}

    @classmethod
    def from_dict(cls, fields: Any) -> "Preprocessing":
        """The reverse of `to_dict`.

        Raises:
            ValueError: no image could be prepared like this.
        """
        found = _read(cls, fields)
        side = found.image_size + 2 * found.border
        if len(found.mean) != 3 or len(found.std) != 3:
            raise ValueError("there are not three channels")
        if found.crop > side or (found.views == 10 and found.crop == side):
            raise ValueError(f"a crop of {found.crop} px does not fit images of {side} px")
        if found.views not in (1, 2, 10):
            raise ValueError(f"there are {found.views} views")
        return found


def _read(kind: type[Read], fields: Any) -> Read:
    """An object of one of these classes, from what JSON held of it.

    Raises:
        ValueError: a field is unknown, missing, or not what its type says.
    """
    hints = get_type_hints(kind, include_extras=True)
    try:
        return kind(**{name: checked(name, one, hints[name]) for name, one in fields.items()})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{kind.__name__} is not described in full ({error})") from error
    except InputError as error:
        raise ValueError(error.message) from error


def class_names(found: Any) -> list[str]:
    """Names of classes, from what JSON held of them.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError("its classes have no names")
    return found
