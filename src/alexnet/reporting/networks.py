"""`describe`: a network, of a run or by name, as a table and as a drawing. Imports no torch."""

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from alexnet.atomic import output_file, replacing, write_csv
from alexnet.errors import InputError, did_you_mean
from alexnet.network.description import ARCHITECTURES, Architecture
from alexnet.network.header import described
from alexnet.network.layers import Layer, layers
from alexnet.reporting.drawing import Drawing, in_notebook
from alexnet.reporting.network_drawing import network_drawing
from alexnet.runs.directory import RunDirectory
from alexnet.values import Whole, checked_arguments

MADE_FOR = {  # px, classes
    "2012": (227, 1000),
    "2014": (224, 1000),
    "small": (32, 10),
    "compact": (64, 100),
    "fast": (32, 10),
    "wide": (32, 10),
}
HEADING = (
    "layer", "output", "kernel", "then", "parameters", "multiplications", "receptive field, px",
)  # fmt: skip
NARROW = "layer output kernel then parameters multiplies field".split()  # on a terminal
WORDS, NUMBERS = slice(0, 4), slice(4, None)  # columns of the table
DRAWN, TABLE = (".svg", ".png"), ".csv"  # endings of files


@dataclass(frozen=True)
class Description:
    """A network, layer by layer; `print` shows its table. Numbers are for one image."""

    name: str
    side: int  # px of the images
    classes: int
    layers: list[Layer]  # the first is the image itself

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        return sum(one.parameters for one in self.layers)

    @property
    def multiplications(self) -> int:
        """Of convolutions and fully connected layers, which nearly all the time is spent on."""
        return sum(one.multiplications for one in self.layers)

    @cached_property
    def drawing(self) -> Drawing:
        """The network as the paper of 2012 draws it."""
        return network_drawing(self.layers, self.name)

    def rows(self) -> list[list[str]]:
        """The table in words, its heading and its sum included."""
        sums = ["all", "", "", "", f"{self.parameters:,}", f"{self.multiplications:,}", ""]
        return [list(HEADING), *map(told, self.layers), sums]

    def plain_rows(self) -> list[list[str]]:
        """The same for programs: numbers without commas."""
        return [
            [*row[WORDS], *(one.replace(",", "") for one in row[NUMBERS])] for row in self.rows()
        ]

    @checked_arguments
    def save(self, path: str | Path) -> Path:
        """Writes the drawing (.svg, .png) or the table (.csv); returns the path.

        Raises:
            InputError: it has another ending. DiskError: it cannot be written.
        """
        where = output_file(path, *DRAWN, TABLE)
        if where.suffix.lower() == TABLE:
            write_csv(where, self.plain_rows())
        else:
            drawn = self.drawing.svg if where.suffix.lower() == ".svg" else self.drawing.png
            with replacing(where) as aside:
                aside.write_bytes(drawn)
        return where

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        look = "font-family: monospace; line-height: 1.4"
        table = f"<pre style='{look}'>{html.escape(str(self))}</pre>"
        return in_notebook(f"{self.drawing.inline}{table}")

    def __str__(self) -> str:
        rows = [NARROW, *self.rows()[1:]]
        widths = [max(len(row[place]) for row in rows) for place in range(len(NARROW))]

        def line(row: list[str]) -> str:
            cells = [one.ljust(width) for one, width in zip(row[WORDS], widths[WORDS], strict=True)]
            cells += map(str.rjust, row[NUMBERS], widths[NUMBERS])
            return "  ".join(cells).rstrip()

        about = f"the network {self.name}, {self.side} px, {self.classes:,} classes"
        return "\n".join([about, *map(line, rows)])


def told(layer: Layer) -> list[str]:
    """A row of the table."""
    kernel = f"{layer.kernel}x{layer.kernel}" if layer.kernel else ""
    kernel += f" /{layer.stride}" if layer.stride > 1 else ""
    kernel += f", {layer.groups} groups" if layer.groups > 1 else ""
    numbers = [f"{one:,}" if one else "" for one in (layer.parameters, layer.multiplications)]
    output = "x".join(map(str, layer.output))
    return [layer.name, output, kernel, ", ".join(layer.then), *numbers, f"{layer.field:,}"]


@checked_arguments
def describe(model: str | Path, *, classes: Whole = 0, image_size: Whole = 0) -> Description:
    """A network, layer by layer: shapes, kernels, parameters, multiplications, receptive fields.

    Args:
        model: "2012", "2014", "small", "compact", "fast" or "wide"; or a run directory or a file of
            weights.
        classes: how many; 0 for those of the run, or those that the network was made for.
        image_size: px of the square that it sees; 0 likewise.

    Raises:
        InputError: there is no such network. RunError, WeightsError: the run is not finished, or
            its weights are damaged. ModelError: the images are too small for it.
    """
    name = str(model)
    if name in ARCHITECTURES:
        side, count = MADE_FOR[name]
        own = ARCHITECTURES[name]
    elif Path(model).expanduser().exists():
        own, side, count = of_run(RunDirectory(model))
    else:
        raise InputError(
            f"there is no network {name!r}, and no run of that name.",
            did_you_mean(name, ARCHITECTURES),
        )
    for what, value in (("classes", classes), ("image_size", image_size)):
        if value < 0:
            raise InputError(f"{what} is {value}, expected at least 1, or 0 for the usual number.")
    count, side = classes or count, image_size or side
    if not count:
        raise InputError(f"{model} names no classes.", "Say how many: --classes.")
    return Description(own.name, side, count, layers(own, count, side))


def of_run(run: RunDirectory) -> tuple[Architecture, int, int]:
    """The network of a run, the side of the images it sees, and how many classes it knows.

    Raises:
        RunError, WeightsError: as in `describe`.
    """
    found = described(run.about(), run)
    return found.architecture, found.preprocessing.crop, len(found.classes)
