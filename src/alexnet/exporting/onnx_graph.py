"""A network with its preprocessing as one ONNX graph: uint8 images of any size in, probabilities
out.

Written node by node from the layers themselves, so that it holds nothing but them. Shapes: N
images, H W their size, S image size, C crop, K classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from alexnet.classification.onnx_classifier import OUTPUTS
from alexnet.data.augment import view_windows
from alexnet.errors import ModelError
from alexnet.exporting.quantise import quantised
from alexnet.network.description import Preprocessing
from alexnet.network.model import (
    AdaptiveAverage,
    AlexNet,
    AverageAndMaximum,
    LocalResponseNorm,
    MeanImage,
    Whitening,
)
from alexnet.scoring.conformal import NEIGHBOUR, SHORTEST

OPSET, IR = 17, 8  # of 2022: whatever runs ONNX at all reads them
ONE, HALF, LOW = 2**14, 2**13, 2**8  # a weight of 1 in its high part; a low part that is one high
INPUT, (OUTPUT, DISTANCE) = "images", OUTPUTS


class Graph:
    """Nodes and constants, as they come."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix  # of the names, which are one space for a graph and its branches
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One more operation; returns the name of its output."""
        name = f"{self.prefix}{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = None) -> str:
        """An array or a number; returns its name. Equal ones are stored once."""
        array = np.asarray(value, dtype, order="C")
        if array.size > 64:
            name = f"constant_{len(self.constants)}"
        else:
            name = f"{array.dtype}_{array.shape}_{array.tolist()}".replace(" ", "")
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(array, name)
        return name


def whole_graph(
    model: AlexNet,
    how: Preprocessing,
    about: str,
    *,
    int8: bool,
    memory: NDArray[np.float16] | None = None,
) -> onnx.ModelProto:
    """The graph of a network in evaluation mode with its preprocessing.

    Args:
        model: on the CPU, float32.
        how: its preprocessing.
        about: kept in the metadata under "alexnet".
        int8: store the weights of fully connected layers in 8 bits (`quantise.quantised`).
        memory: of a `Calibration`; for a second output.

    Returns:
        A model whose input `images` is (N, H, W, 3) uint8, RGB, N images of equal but any size, and
        whose output `probabilities` is (N, K) float32; the other one, `distance`, is (N,) float32.
    """
    graph = Graph()
    pixels = square(graph, how.image_size)
    windows = views(graph, pixels, how)
    joined = graph.add("Concat", *windows, axis=0) if len(windows) > 1 else windows[0]
    pooled, logits = network(graph, model, joined, how.crop, int8)
    p = graph.add("Softmax", logits, axis=-1)
    classes = next(one for one in reversed(model.classifier) if isinstance(one, nn.Linear))
    if len(windows) > 1:
        by_view = graph.constant([len(windows), -1, classes.out_features], np.int64)
        p = graph.add("ReduceMean", graph.add("Reshape", p, by_view), axes=[0], keepdims=0)
    found: dict[str, tuple[str, list[str | int | None]]] = {
        OUTPUT: (p, ["N", classes.out_features])
    }
    if memory is not None:
        found[DISTANCE] = (distance(graph, model, pooled, memory, len(windows)), ["N"])
    for name, (value, _) in found.items():
        graph.nodes.append(helper.make_node("Identity", [value], [name], name))
    made = helper.make_graph(
        graph.nodes,
        "alexnet",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", "H", "W", 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, (_, shape) in found.items()
        ],
        list(graph.constants.values()),
    )
    whole = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="alexnet"
    )
    helper.set_model_props(whole, {"alexnet": about})
    return whole


def square(graph: Graph, size: int) -> str:
    """The centre square of the images, scaled, (N, 3, S, S) float32 from 0 to 255, whole numbers:
    byte for byte what `images.load_image` makes of decoded images.

    Rows and columns are scaled one after the other, and rounded after each: matrix products here,
    whose matrices depend on H and W alone.
    """
    shape = graph.add("Shape", INPUT)
    lengths = [
        graph.add("Gather", shape, graph.constant(axis, np.int64), axis=0) for axis in (1, 2)
    ]
    height, width = (graph.add("Cast", length, to=TensorProto.DOUBLE) for length in lengths)
    shorter = graph.add("Min", height, width)
    down = resampling(graph, lengths[0], height, shorter, size)  # (S, H)
    across = [
        graph.add("Transpose", one, perm=[1, 0])  # (W, S)
        for one in resampling(graph, lengths[1], width, shorter, size)
    ]
    x = graph.add("Transpose", INPUT, perm=[0, 3, 1, 2])  # as bytes, which is quicker
    x = graph.add("Cast", x, to=TensorProto.FLOAT)
    # Pillow begins with the pass that leaves less to do, as comparing pixels shows; torch with rows
    side = graph.constant(size, np.float64)
    twice = graph.add("Mul", width, graph.constant(2, np.float64))
    tall = graph.add("Greater", graph.add("Add", height, side), twice)
    tall = graph.add("And", tall, graph.add("Greater", shorter, side))
    numbers = [graph.constant(one, np.float32) for one in (LOW, HALF, ONE)]
    branches = {}
    for name in ("then", "else"):
        inner = Graph(f"{name}_")
        if name == "then":
            x_down = rounded(inner, [(one, x) for one in down], numbers)
            found = rounded(inner, [(x_down, one) for one in across], numbers)
        else:
            x_across = rounded(inner, [(x, one) for one in across], numbers)
            found = rounded(inner, [(one, x_across) for one in down], numbers)
        output = helper.make_tensor_value_info(found, TensorProto.FLOAT, None)
        branches[f"{name}_branch"] = helper.make_graph(inner.nodes, name, [], [output])
    return graph.add("If", tall, **branches)


def rounded(graph: Graph, factors: Sequence[tuple[str, str]], numbers: Sequence[str]) -> str:
    """A product with the high parts of weights and one with the low parts, added, and rounded half
    up, exactly: every number on the way is a whole one below 2^24."""
    low, half, one = numbers
    products = [graph.add("MatMul", *both) for both in factors]
    carried = graph.add("Floor", graph.add("Div", products[1], low))
    total = graph.add("Add", graph.add("Add", products[0], carried), half)
    return graph.add("Floor", graph.add("Div", total, one))


def resampling(graph: Graph, length: str, exact: str, shorter: str, size: int) -> list[str]:
    """Two matrices (S, L) float32: row i says how much of each of L pixels goes into the i-th of
    the scaled ones, as a high and a low part, `(high + low / 256) / 2^14`.

    The weights of Pillow's `resize` with a box (Resample.c, bilinear, 22 bits): a triangle as wide
    as two of the larger pixels, which looks beyond the square. Enlarging is torch's
    (UpSampleKernelAVXAntialias.h, 14 bits), which begins with a cut at whole pixels.
    """
    number = {value: graph.constant(value, np.float64) for value in (0.0, 0.5, 1.0, 2.0, size)}
    shrinks = graph.add("Greater", shorter, number[size])
    margin = graph.add("Div", graph.add("Sub", exact, shorter), number[2.0])
    left = graph.add("Where", shrinks, margin, graph.add("Floor", margin))
    scale = graph.add("Div", shorter, number[size])
    middles = graph.constant(np.arange(size)[:, None] + 0.5, np.float64)
    centres = graph.add("Add", left, graph.add("Mul", middles, scale))  # (S, 1)
    steps = [graph.constant(one, np.int64) for one in (0, 1)]
    counted = graph.add("Range", steps[0], length, steps[1])
    places = graph.add("Cast", counted, to=TensorProto.DOUBLE)
    places = graph.add("Add", places, number[0.5])  # (L,)
    distance = graph.add("Abs", graph.add("Sub", places, centres))
    distance = graph.add("Div", distance, graph.add("Max", scale, number[1.0]))
    weights = graph.add("Max", graph.add("Sub", number[1.0], distance), number[0.0])
    first = graph.add("Where", shrinks, number[0.0], left)
    end = graph.add("Where", shrinks, exact, graph.add("Add", left, shorter))
    inside = graph.add("And", graph.add("Greater", places, first), graph.add("Less", places, end))
    weights = graph.add("Mul", weights, graph.add("Cast", inside, to=TensorProto.DOUBLE))
    total = graph.add("ReduceSum", weights, graph.constant([1], np.int64), keepdims=1)
    weights = graph.add("Div", weights, total)
    exactness, low = (graph.constant(one, np.float64) for one in (ONE * LOW, LOW))
    unit = graph.add("Where", shrinks, number[1.0], low)
    bits = graph.add("Mul", weights, graph.add("Div", exactness, unit))
    bits = graph.add("Mul", graph.add("Floor", graph.add("Add", bits, number[0.5])), unit)
    high = graph.add("Floor", graph.add("Div", bits, low))
    rest = graph.add("Sub", bits, graph.add("Mul", high, low))
    return [graph.add("Cast", one, to=TensorProto.FLOAT) for one in (high, rest)]


def views(graph: Graph, x: str, how: Preprocessing) -> list[str]:
    """The windows of scaled images that a network sees, each (N, 3, C, C) float32, normalised: as
    `augment.evaluation_views`."""
    if how.border:
        edges = graph.constant([0, 0, how.border, how.border] * 2, np.int64)
        x = graph.add("Pad", x, edges, graph.constant(0, np.float32))
    scale = np.array([1 / (255 * s) for s in how.std], np.float32).reshape(1, -1, 1, 1)
    shift = np.array([-m / s for m, s in zip(how.mean, how.std, strict=True)], np.float32)
    x = graph.add("Mul", x, graph.constant(scale))
    x = graph.add("Add", x, graph.constant(shift.reshape(1, -1, 1, 1)))
    found = []
    for top, left, mirrored in view_windows(how.image_size, how.border, how.crop, how.views):
        window = _slice(graph, x, (top, left), (top + how.crop, left + how.crop), (1, 1))
        if mirrored:
            window = _slice(graph, window, (0, -1), (how.crop, -how.crop - 1), (1, -1))
        found.append(window)
    return found


def _slice(
    graph: Graph, x: str, starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]
) -> str:
    wanted = [graph.constant(one, np.int64) for one in (starts, ends, (2, 3), steps)]
    return graph.add("Slice", x, *wanted)


def distance(
    graph: Graph, model: AlexNet, pooled: str, memory: NDArray[np.float16], views: int
) -> str:
    """How far images are from those remembered, (N,), of what goes into the fully connected layers,
    (views * N, D), the first view first: as `AlexNet.descriptor` and `conformal.distances`."""
    channels, places = model.architecture.convs[-1].channels, model.architecture.map_side**2
    width = channels * places + channels * model.architecture.map_maximum
    by_view = graph.constant([views, -1, width], np.int64)
    first = graph.constant(0, np.int64)
    x = graph.add("Gather", graph.add("Reshape", pooled, by_view), first, axis=0)
    cut = [graph.constant([one], np.int64) for one in (0, channels * places, width, 1)]
    maps = graph.add("Slice", x, cut[0], cut[1], cut[3])
    maps = graph.add("Reshape", maps, graph.constant([-1, channels, places], np.int64))
    means = graph.add("ReduceMean", maps, axes=[2], keepdims=0)
    if model.architecture.map_maximum:
        tops = graph.add("Slice", x, cut[1], cut[2], cut[3])
    else:
        tops = graph.add("ReduceMax", maps, axes=[2], keepdims=0)
    x = graph.add("Concat", unit(graph, means), unit(graph, tops), axis=1)
    remembered = graph.add("Cast", graph.constant(memory.T), to=TensorProto.FLOAT)
    near = graph.add("MatMul", unit(graph, x), remembered)
    count = graph.constant([min(NEIGHBOUR, len(memory))], np.int64)
    outputs = ["nearest", "places"]
    graph.nodes.append(helper.make_node("TopK", [near, count], outputs, "nearest", axis=1))
    last = graph.add("ReduceMin", outputs[0], axes=[1], keepdims=0)
    return graph.add("Sub", graph.constant(1, np.float32), last)


def unit(graph: Graph, x: str) -> str:
    """(N, D), each divided by its length."""
    length = graph.add("ReduceL2", x, axes=[1], keepdims=1)
    shortest = graph.constant(SHORTEST, np.float32)
    return graph.add("Div", x, graph.add("Max", length, shortest))


def network(graph: Graph, model: AlexNet, x: str, side: int, int8: bool) -> tuple[str, str]:
    """The layers of a network, in evaluation mode: (B, 3, C, C) to what goes into the fully
    connected layers, (B, D), and logits (B, K)."""
    for layer in model.features:
        x = _layer(graph, layer, x, int8)
    pooled = x = _pooled(graph, model.avgpool, x, model.architecture.feature_side(side))
    for layer in model.classifier:
        x = _layer(graph, layer, x, int8)
    return pooled, x


def _layer(graph: Graph, layer: nn.Module, x: str, int8: bool) -> str:
    match layer:
        case nn.Conv2d():
            inputs = [_array(layer.weight)] + ([] if layer.bias is None else [_array(layer.bias)])
            return graph.add(
                "Conv",
                x,
                *map(graph.constant, inputs),
                kernel_shape=layer.kernel_size,
                strides=layer.stride,
                pads=[int(one) for one in layer.padding] * 2,
                group=layer.groups,
            )
        case Whitening():
            weight = graph.constant(_array(layer.weight))
            sides, strides = [*layer.weight.shape[2:]], [layer.stride] * 2
            x = graph.add("Conv", x, weight, kernel_shape=sides, strides=strides)
            return graph.add("Relu", x)
        case MeanImage():
            return graph.add("Sub", x, graph.constant(_array(layer.image)))
        case nn.Linear():
            weight = _weight(graph, layer, int8)
            return graph.add("Gemm", x, weight, graph.constant(_array(layer.bias)), transB=1)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            figures = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
            named = [graph.constant(_array(one)) for one in figures if one is not None]
            return graph.add("BatchNormalization", x, *named, epsilon=layer.eps)
        case LocalResponseNorm():
            # ours are 5 neighbours, 1e-4 and 0.75; alpha is divided by the size here too
            return graph.add("LRN", x, size=5, alpha=1e-4, beta=0.75, bias=float(layer.k[0]))
        case nn.MaxPool2d() | nn.AvgPool2d():
            kind = "MaxPool" if isinstance(layer, nn.MaxPool2d) else "AveragePool"
            kernel, stride = layer.kernel_size, layer.stride
            return graph.add(kind, x, kernel_shape=[kernel] * 2, strides=[stride] * 2)
        case nn.ReLU():
            return graph.add("Relu", x)
        case nn.LeakyReLU():
            return graph.add("LeakyRelu", x, alpha=layer.negative_slope)
        case nn.Tanh():
            return graph.add("Tanh", x)
        case nn.Dropout():
            return x
    raise ModelError(f"a layer {layer} cannot be exported.", "Use the networks of this package.")


def _weight(graph: Graph, layer: nn.Linear, int8: bool) -> str:
    if not int8:
        return graph.constant(_array(layer.weight))
    steps, scale = quantised(layer.weight)
    zero = np.zeros(len(scale), np.int8)
    named = [graph.constant(one) for one in (_array(steps), _array(scale), zero)]
    return graph.add("DequantizeLinear", *named, axis=0)


def _pooled(graph: Graph, layer: AdaptiveAverage | AverageAndMaximum, x: str, side: int) -> str:
    """What goes into the fully connected layers, (B, D)."""
    if isinstance(layer, AdaptiveAverage):
        return graph.add("Flatten", _average(graph, layer, x, side), axis=1)
    parts = [_average(graph, layer.average, x, side), graph.add("GlobalMaxPool", x)]
    return graph.add("Concat", *[graph.add("Flatten", one, axis=1) for one in parts], axis=1)


def _average(graph: Graph, layer: AdaptiveAverage, x: str, side: int) -> str:
    if side == layer.side:
        return x
    windows = _array(layer.windows(side, torch.zeros(())))  # (side of the map, side)
    x = graph.add("MatMul", graph.constant(windows), x)
    return graph.add("MatMul", x, graph.constant(windows.T))


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    found: NDArray[Any] = tensor.detach().numpy()
    return found
