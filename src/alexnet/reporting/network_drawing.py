"""A network drawn as in the paper of 2012: each layer a block as high and as deep as its maps and
as wide as they are many, in it the window that slides over them, dashed lines to what that becomes.
Imports no torch."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alexnet.network.layers import Layer
from alexnet.reporting.drawing import ACCENT, FAINT, INK, LIGHT, LINES, PAPER, Drawing, Hover

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, float]
# all in px
TALLEST, SHORTEST = 150.0, 16.0  # the front of a block
SLANT = (0.42, 0.30)  # how far what is one px deep lies to the right, and up
GAP = 46.0  # between two blocks
ROW_GAP = 34.0  # between two columns of the paper, which lie above each other
MARGIN, BELOW = 30.0, 60.0  # around everything; below it, for words


@dataclass(frozen=True)
class Block:
    """A box in oblique projection; `x`, `y` is its lower left front corner."""

    x: float
    y: float
    width: float
    height: float
    depth: float

    @property
    def back(self) -> Point:
        """From its front to its back."""
        return SLANT[0] * self.depth, SLANT[1] * self.depth

    @property
    def centre(self) -> Point:
        """Of its front."""
        return self.x + self.width / 2, self.y + self.height / 2

    def faces(self) -> tuple[list[Point], list[Point], list[Point]]:
        """The corners of its front, top and right side."""
        (dx, dy), left, right = self.back, self.x, self.x + self.width
        low, high = self.y, self.y + self.height
        return (
            [(left, low), (right, low), (right, high), (left, high)],
            [(left, high), (right, high), (right + dx, high + dy), (left + dx, high + dy)],
            [(right, low), (right + dx, low + dy), (right + dx, high + dy), (right, high)],
        )

    def window(self, share: float) -> "Block":
        """A box that takes a share of its height and depth, and all of its width, in the middle."""
        share = min(1.0, max(share, 7 / self.height))
        (dx, dy), free = self.back, (1 - share) / 2
        x, y = self.x + dx * free, self.y + (self.height + dy) * free
        return Block(x, y, self.width, self.height * share, self.depth * share)


@dataclass(frozen=True)
class Column:
    """A layer where it is drawn: a block, or one for each part of it."""

    layer: Layer
    between: Sequence[Layer]  # what pools its maps before the next one sees them
    blocks: list[Block]

    @property
    def seen(self) -> int:
        """The side of what the next layer sees of it."""
        return (self.between[-1] if self.between else self.layer).side


def network_drawing(layers: Sequence[Layer], name: str) -> Drawing:
    """The image, and the layers that have weights. Those whose channels are divided lie above each
    other, as the columns of the paper do."""
    columns = list(arranged(layers))
    top = max(b.y + b.height + b.back[1] for c in columns for b in c.blocks) + MARGIN / 2
    end = max(b.x + b.width + b.back[0] for c in columns for b in c.blocks) + MARGIN

    def paint(figure: "Figure") -> list[Hover]:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, end), ylim=(0, top))
        axes.axis("off")
        for column in columns:
            for block in column.blocks:
                draw_block(axes, block)
            write_words(axes, column)
        for column, following in itertools.pairwise(columns):
            join(axes, column, following)
        return []

    return Drawing(f"the network {name}", paint, top, end, stretch=1.3)


def arranged(layers: Sequence[Layer]) -> Iterator[Column]:
    """Where each layer is drawn."""
    places = [n for n, one in enumerate(layers) if one.kind in ("input", "conv", "dense")]
    groups = [layers[place].groups for place in places]
    rows = [max(pair) for pair in zip(groups, [*groups[1:], 1], strict=True)]
    blocks = [block_of(layers[place], n, layers) for place, n in zip(places, rows, strict=True)]
    tall = [block.height + block.back[1] for block in blocks]
    apart = ROW_GAP + max((t for t, n in zip(tall, rows, strict=True) if n > 1), default=0)
    middle = BELOW + max(t + (n - 1) * apart for t, n in zip(tall, rows, strict=True)) / 2
    x = MARGIN
    for number, (place, count, block) in enumerate(zip(places, rows, blocks, strict=True)):
        following = places[number + 1] if number + 1 < len(places) else len(layers)
        lowest = middle - (tall[number] + (count - 1) * apart) / 2
        parts = [
            Block(x, lowest + row * apart, block.width, block.height, block.depth)
            for row in range(count)
        ]
        yield Column(layers[place], layers[place + 1 : following], parts)
        x += block.width + block.back[0] + GAP


def block_of(layer: Layer, parts: int, layers: Sequence[Layer]) -> Block:
    """The block of one part of a layer, anywhere."""
    if layer.kind == "dense":
        most = max(one.channels for one in layers if one.kind == "dense")
        return Block(0, 0, 9, scaled(layer.channels / max(most, 1000)), 9)
    side = scaled(layer.side / layers[0].side)
    return Block(0, 0, 6 + 3.2 * (layer.channels / parts) ** 0.5, side, side)


def scaled(share: float) -> float:
    """px for a share of the greatest length; drawn to scale, small ones would vanish."""
    return max(SHORTEST, TALLEST * math.pow(share, 0.55))


def draw_block(axes: "Axes", block: Block) -> None:
    """Its three faces."""
    for face, fill in zip(block.faces(), (PAPER, PAPER, LINES), strict=True):
        axes.fill(
            *zip(*face, strict=True), facecolor=LIGHT[fill], edgecolor=LIGHT[INK], linewidth=0.9
        )


def write_words(axes: "Axes", column: Column) -> None:
    """How many channels and how large, beside each block; below all, which layer it is."""
    layer, first = column.layer, column.blocks[0]
    for block in column.blocks:
        x, _ = block.centre
        share = f"{layer.channels // len(column.blocks):,}"
        axes.text(x, block.y - 3, share, ha="center", va="top", fontsize=9)
        if layer.kind != "dense":
            beside, (dx, dy) = block.x + block.width, block.back
            high = block.y + block.height
            axes.text(block.x - 3, high, str(layer.side), ha="right", va="top", fontsize=9)
            axes.text(beside + dx / 2 + 2, block.y + dy / 2, str(layer.side), va="top", fontsize=9)
    x = first.x + (first.width + first.back[0]) / 2
    axes.text(x, BELOW - 20, layer.name, ha="center", va="top", fontsize=9.5)
    done = {"pool": "pooled", "average": "averaged", "maximum": "and maximum"}
    done["whitening"] = "whitened"
    words = "\n".join(f"{done[one.kind]} to {one.side}" for one in column.between)
    axes.text(x, BELOW - 34, words, ha="center", va="top", fontsize=8, color=LIGHT[FAINT])


def join(axes: "Axes", column: Column, following: Column) -> None:
    """The window that the next layer slides over a layer, and dashed lines to what it becomes."""
    layer, between = following.layer, []
    for row, block in enumerate(column.blocks):
        joined = following.blocks
        if layer.groups > 1:
            joined = [following.blocks[row]]
        seen = block if layer.kind == "dense" else block.window(layer.kernel / column.seen)
        side = seen.faces()[2]
        if layer.kind == "conv":
            for face in seen.faces():
                axes.fill(
                    *zip(*face, strict=True), fill=False, edgecolor=LIGHT[ACCENT], linewidth=1
                )
        for other in joined:
            corners = other.faces()[0]
            ends = (
                [other.centre] * 4 if layer.kind == "conv" else [corners[0]] * 2 + [corners[3]] * 2
            )
            between += list(zip(side, ends, strict=True))
    for start, end in between:
        axes.plot(*zip(start, end, strict=True), color=LIGHT[FAINT], linewidth=0.6, dashes=(4, 3))
    write_between(axes, column, following)


def write_between(axes: "Axes", column: Column, following: Column) -> None:
    """The size of the window and its stride, or that everything is joined with everything."""
    last, layer = column.blocks[-1], following.layer
    x = (last.x + last.width + last.back[0] + following.blocks[0].x) / 2
    words = "dense"
    if layer.kind == "conv":
        words = f"{layer.kernel}×{layer.kernel}"
        words += f"\nstride {layer.stride}" if layer.stride > 1 else ""
    axes.text(x, BELOW - 34, words, ha="center", va="top", fontsize=8, color=LIGHT[ACCENT])
