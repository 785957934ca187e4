"""A matplotlib figure -> inline SVG that belongs to its page: it takes the page's fonts, and its
colours, which follow light and dark mode. Imports no torch.

Equal figures are equal bytes. Whatever stands in a label is text, never markup or mathematics.
"""

import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = (
    380  # px of an ordinary figure, which is that of a telephone: text is read at its size there
)
SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"

# Drawn in colours nobody would choose, which the finished figure exchanges for the page's own
INK, FAINT, LINES, PAPER, ACCENT = (f"#01030{number}" for number in range(5))
SERIES = [f"#01040{number}" for number in range(6)]
VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    LINES: "var(--lines)",
    PAPER: "var(--paper)",
    ACCENT: "var(--accent)",
} | {colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)}

LOOK: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINES,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
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


def svg(
    title: str,
    paint: Callable[["Figure"], Iterable[Hover]],
    height: float,
    width: float = WIDTH,
    stretch: float = 1.25,
) -> Markup:
    """The figure that `paint` draws, as an `<svg>` element that is as wide as its place.

    Args:
        title: what the figure shows, for those who do not see it.
        paint: draws on an empty figure, and returns what is told on hovering.
        height: px at `width`.
        width: px at which text has its proper size.
        stretch: how many times as wide it may become.
    """
    from matplotlib import style  # half a second to import
    from matplotlib.figure import Figure

    file = io.StringIO()
    with style.context(["default", LOOK | {"svg.hashsalt": title}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has the glyphs
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
        hovers = list(paint(figure))
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(file.getvalue())  # noqa: S314 we wrote it just now
    for hover in hovers:
        root.append(_hover(hover, height))
    _adopt(root)
    root.attrib = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "aria-label": label(title, 200),
        "style": f"max-width: {width * stretch:g}px",
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 escaped by the writer


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
