"""A matplotlib figure, for a page and for a paper. Inline in a page it takes the page's fonts, and
its colours, which follow light and dark mode; as an SVG or PNG file it has those of paper. Imports
no torch.

Equal figures are equal bytes. Whatever stands in a label is text, never markup or mathematics.
"""

import contextlib
import io
import re
import unicodedata
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = (
    380  # px of an ordinary figure, which is that of a telephone: text is read at its size there
)
DPI, MOST_PIXELS = 300, 3600  # of a PNG: what journals ask for, on no side more than so many
SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"

# The colours of pages, by name. Figures ask for them by name, too. No two are the same: in inline
# figures, which are drawn in those of light pages, each is exchanged for the page's own.
INK, FAINT, LINES, PAPER, ACCENT = "ink", "faint", "lines", "paper", "accent"
SERIES = [f"series-{number}" for number in range(6)]
LIGHT = {
    PAPER: "#ffffff", INK: "#1c2330", FAINT: "#667085", LINES: "#e2e6ec", "panel": "#f5f7fa",
    ACCENT: "#2f6fd0", "good": "#1a7f4b", "bad": "#c2362b",
} | dict(
    zip(SERIES, "#2f6fd1 #d0692f #1a8f6a #9a4fc4 #b58900 #c23a6b".split(), strict=True)
)  # fmt: skip
DARK = {
    PAPER: "#14181f", INK: "#e6eaf0", FAINT: "#98a2b3", LINES: "#2c3440", "panel": "#1c222c",
    ACCENT: "#6ea3f2", "good": "#52c48a", "bad": "#f0796f",
} | dict(
    zip(SERIES, "#6ea3f2 #f0a06a #52c9a3 #c79aec #dcb84a #f084ab".split(), strict=True)
)  # fmt: skip
VARIABLES = {colour: f"var(--{name})" for name, colour in LIGHT.items()}
# those of inline figures on a page whose own are not known, light or dark: a notebook
UNKNOWN = (
    "--ink: currentColor; --faint: #8a8f98; --lines: #8a8f9855; --paper: transparent; "
    "--accent: #3f83e0"
)
NO_HOVER = ".alexnet-run .hover { fill: transparent }"  # what is told on hovering covers nothing


def in_notebook(content: str) -> str:
    """HTML with inline figures as a notebook shows it."""
    return f"<div class='alexnet-run' style='{UNKNOWN}'><style>{NO_HOVER}</style>{content}</div>"


def look() -> dict[str, Any]:
    """matplotlib's settings."""
    return {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a class may be called $x$
        "font.size": 11,
        "text.color": LIGHT[INK],
        "axes.edgecolor": LIGHT[FAINT],
        "axes.labelcolor": LIGHT[FAINT],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LIGHT[LINES],
        "xtick.color": LIGHT[FAINT],
        "ytick.color": LIGHT[FAINT],
        "xtick.labelcolor": LIGHT[INK],
        "ytick.labelcolor": LIGHT[INK],
        "lines.linewidth": 1.8,
        "legend.frameon": False,
        "legend.fontsize": 10,
    }


@dataclass(frozen=True)
class Hover:
    """What is told when the pointer rests on a rectangle, given in the coordinates of the data."""

    axes: "Axes"
    x: tuple[float, float]
    y: tuple[float, float]
    text: str


def label(text: str, limit: int = 22) -> str:
    """`text` as a label of at most `limit` characters that XML can hold."""
    fit = "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(one) in ("Cc", "Cs") or one in "\ufffe\uffff"
        else one
        for one in str(text)
    )
    return fit if len(fit) <= limit else fit[: limit - 1].rstrip() + "…"


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn: on a page, and as a file."""

    title: str  # what it shows, for those who do not see it, and for the names of its files
    # draws on an empty figure in the colours of LIGHT, and returns what is told on hovering
    paint: Callable[["Figure"], Iterable[Hover]]
    height: float  # px at `width`
    width: float = WIDTH  # px at which text has its proper size
    stretch: float = 1.25  # how many times as wide it may become

    @property
    def name(self) -> str:
        """Of its files, without their ending."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")[:80] or "figure"

    @cached_property
    def inline(self) -> Markup:
        """An `<svg>` element that is as wide as its place."""
        _, content, told = self._drawn
        root = ElementTree.fromstring(content)  # noqa: S314 we wrote it just now
        root.extend(told)
        _adopt(root)
        root.attrib = {
            "viewBox": f"0 0 {self.width:g} {self.height:g}",
            "role": "img",
            "aria-label": label(self.title, 200),
            "style": f"max-width: {self.width * self.stretch:g}px",
        }
        written = ElementTree.tostring(root, encoding="unicode")
        return Markup(written)  # noqa: S704 escaped by the writer

    @cached_property
    def svg(self) -> bytes:
        """The content of an .svg file: text as text, on white."""
        _, content, _ = self._drawn
        start = content.index(">", content.index("<svg")) + 1
        paper = f'<rect width="100%" height="100%" fill="{LIGHT[PAPER]}"/>'
        return (content[:start] + paper + content[start:]).encode("utf-8")

    @cached_property
    def png(self) -> bytes:
        """The content of a .png file, for printing."""
        figure, *_ = self._drawn
        file = io.BytesIO()
        dpi = min(DPI, MOST_PIXELS * 72 / max(self.width, self.height))
        with self._style():
            # runs of equal bytes alone are looked for: a quarter less time, 9 % larger
            figure.savefig(
                file,
                format="png",
                dpi=dpi,
                metadata={"Software": None},
                pil_kwargs={"compress_type": zlib.Z_RLE},
            )
        return file.getvalue()

    @cached_property
    def _drawn(self) -> "tuple[Figure, str, list[ElementTree.Element]]":
        """The figure, laid out; as SVG; and what is told on hovering."""
        from matplotlib.figure import Figure  # half a second to import

        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with self._style():
            size = (self.width / 72, self.height / 72)
            figure = Figure(figsize=size, dpi=72, layout="constrained")
            hovers = list(self.paint(figure))
            figure.savefig(file, format="svg", transparent=True, metadata=nothing)
        told = [_hover(hover, self.height) for hover in hovers]
        figure.set_layout_engine("none")  # it stays as it is: half of the time
        return figure, file.getvalue(), told

    @contextlib.contextmanager
    def _style(self) -> Iterator[None]:
        from matplotlib import style

        settings = look() | {"svg.hashsalt": self.title}
        with style.context(["default", settings]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has the glyphs
            yield


def _hover(hover: Hover, height: float) -> ElementTree.Element:
    """An invisible rectangle with a title."""
    corners = hover.axes.transData.transform(list(zip(hover.x, hover.y, strict=True)))
    (left, right), (bottom, top) = sorted(corners[:, 0]), sorted(corners[:, 1])
    place = {"x": left, "y": height - top, "width": right - left, "height": top - bottom}
    attributes = {name: f"{value:.1f}" for name, value in place.items()}
    rectangle = ElementTree.Element("rect", attributes | {"class": "hover"})
    ElementTree.SubElement(rectangle, "title").text = label(hover.text, 200)
    return rectangle


def _adopt(root: ElementTree.Element) -> None:
    """Makes the figure part of an HTML page: no styles that leak, no names used twice, the page's
    fonts and colours, and no more digits than a screen shows."""
    used = set()
    for element in root.iter():
        for name in ("clip-path", f"{XLINK}href"):
            used.update(re.findall(r"#([^)]+)", element.get(name, "")))
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        for child in list(element):
            if child.tag == f"{SVG}style":
                element.remove(child)
        if element.tag != "text":  # where spaces between elements mean nothing
            element.text = None if not (element.text or "").strip() else element.text
        element.tail = None
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        if f"{XLINK}href" in element.attrib:
            element.set("href", element.attrib.pop(f"{XLINK}href"))
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        for name in ("d", "x", "y", "transform"):
            if name in element.attrib:
                short = re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", element.attrib[name])
                element.set(name, " ".join(short.split()))
        if "style" in element.attrib:
            element.set("style", _own_style(element.attrib["style"]))


def _own_style(declarations: str) -> str:
    found = re.sub(r"font: (?:\w+ )*?([\d.]+px) [^;]*", r"font-size: \1", declarations)
    found = re.sub(r"font-family: [^;]*(; )?", "", found)
    for colour, variable in VARIABLES.items():
        found = found.replace(colour, variable)
    return found
