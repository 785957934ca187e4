"""A description, layer by layer: what each gives, and what it costs. Imports no torch.

Shapes: C channels, S side of a square map or image, D features.
"""

import dataclasses
from dataclasses import dataclass

from alexnet.network.description import Architecture, Conv

WORDS = {"relu": "ReLU", "leaky-relu": "leaky ReLU", "lrn": "LRN", "batch": "batch norm"}


@dataclass(frozen=True)
class Layer:
    """A layer with what follows it. Numbers are for one image."""

    # input, whitening, conv, pool, average, maximum (which goes beside the average), dense
    kind: str
    name: str  # conv1, fc6, ...
    output: tuple[int, ...]  # (C, S, S), or (D,)
    then: tuple[str, ...] = ()  # what its output goes through before the next layer
    kernel: int = 0  # side of its window, in values of the layer below; 0: it sees all of them
    stride: int = 1
    groups: int = 1  # into which the channels are divided
    parameters: int = 0  # with those of the batch normalisation in `then`
    multiplications: int = 0  # of convolutions and fully connected layers
    field: int = 1  # receptive field: side of the square of pixels that one value depends on

    @property
    def channels(self) -> int:
        """Of its output; units where it is no map."""
        return self.output[0]

    @property
    def side(self) -> int:
        """Of its output; 1 where it is no map."""
        return self.output[-1] if len(self.output) > 1 else 1

    @property
    def size(self) -> int:
        """Values of its output."""
        return self.channels * self.side**2


def layers(architecture: Architecture, classes: int, side: int) -> list[Layer]:
    """The layers of a network for so many classes, and images of `side` px; the first is the image
    itself. A receptive field may reach beyond the image.

    Raises:
        ModelError: the images are too small for it.
    """
    architecture.check_input(side)
    return _Tracing(architecture, side).rows(classes)


class _Tracing:
    """Follows an image through the layers of `model.AlexNet`."""

    def __init__(self, architecture: Architecture, side: int) -> None:
        self.own, self.image = architecture, side
        self.found = [Layer("input", "image", (3, side, side))]
        self.step = 1  # px of the image between two neighbouring values

    def rows(self, classes: int) -> list[Layer]:
        if self.own.mean_image:
            self._then("minus mean image")
        if self.own.whitening:
            self._whitening(self.own.whitening)
        for number, conv in enumerate(self.own.convs, 1):
            self._convolution(f"conv{number}", conv)
            for step in self.own.after(conv):
                if step == "pool":
                    kernel = self.own.pool_kernel
                    self._slide("pool", f"pool{number}", kernel, stride=2)
                elif step == "batch":
                    self._then(step, conv.channels)
                else:
                    self._then(self.own.activation if step == "activation" else step)
        self._average()
        if self.own.fc_norm == "batch":
            self._then("batch", self.found[-1].size)
        if not self.own.hidden:
            self._then("dropout")
        for units in self.own.hidden:
            self._hidden(units)
        self._dense(classes)
        return self.found

    def _whitening(self, side: int) -> None:
        filters = 2 * 3 * side**2
        stride = self.own.whitening_stride
        self._slide("whitening", "whitening", side, stride, channels=filters)
        last = self.found[-1]
        products = 3 * side**2 * filters * last.side**2
        self.found[-1] = dataclasses.replace(last, multiplications=products)
        self._then("relu")

    def _convolution(self, name: str, conv: Conv) -> None:
        weights = conv.kernel**2 * self.found[-1].channels // conv.groups * conv.channels
        self._slide("conv", name, conv.kernel, conv.stride, conv.padding, conv.channels)
        last, bias = self.found[-1], conv.channels * (self.own.norm != "batch")
        self.found[-1] = dataclasses.replace(
            last,
            groups=conv.groups,
            parameters=weights + bias,
            multiplications=weights * last.side**2,
        )

    def _slide(
        self,
        kind: str,
        name: str,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        channels: int = 0,
    ) -> None:
        """A layer whose window moves over the maps of the last one."""
        last = self.found[-1]
        side = (last.side + 2 * padding - kernel) // stride + 1
        shape = (channels or last.channels, side, side)
        field = last.field + (kernel - 1) * self.step
        self.found.append(Layer(kind, name, shape, (), kernel, stride, field=field))
        self.step *= stride

    def _average(self) -> None:
        last, side = self.found[-1], self.own.map_side
        if side != last.side:
            # the windows of adaptive pooling differ in size; this is the largest
            bounds = [(i * last.side // side, -(-(i + 1) * last.side // side)) for i in range(side)]
            kernel = max(end - start for start, end in bounds)
            field = last.field + (kernel - 1) * self.step
            shape = (last.channels, side, side)
            self.found.append(Layer("average", "average", shape, (), kernel, kernel, field=field))
        if self.own.map_maximum:
            features = last.channels * (side**2 + 1)
            self.found.append(Layer("maximum", "maximum", (features,), field=self.image))

    def _hidden(self, units: int) -> None:
        if self.own.dropout_first:
            self._then("dropout")
        self._dense(units)
        if self.own.fc_norm == "batch":
            self._then("batch", units)
        self._then(self.own.activation)
        if not self.own.dropout_first:
            self._then("dropout")

    def _dense(self, units: int) -> None:
        weights = self.found[-1].size * units
        number = 1 + sum(layer.kind in ("conv", "dense") for layer in self.found)
        self.found.append(
            Layer(
                "dense",
                f"fc{number}",
                (units,),
                parameters=weights + units,
                multiplications=weights,
                field=self.image,
            )
        )

    def _then(self, step: str, normalised: int = 0) -> None:
        """What the output of the last layer goes through; batch normalisation has two parameters
        for each of what it normalises."""
        if step == "dropout" and not self.own.dropout:
            return
        last = self.found[-1]
        self.found[-1] = dataclasses.replace(
            last,
            then=(*last.then, WORDS.get(step, step)),
            parameters=last.parameters + 2 * normalised,
        )
