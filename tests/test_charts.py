"""Figures: equal ones are equal bytes, they take the page's colours, or those of paper in a file,
and whatever stands in a label is text."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from makers import HOSTILE
from PIL import Image

from alexnet.network.description import ARCHITECTURES
from alexnet.network.layers import layers
from alexnet.reporting import charts
from alexnet.reporting.charts import Curve, Level, Trade
from alexnet.reporting.drawing import LIGHT, label
from alexnet.reporting.network_drawing import network_drawing
from alexnet.scoring.metrics import reliability

BINS = reliability(np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]), np.array([0, 1, 1]))


def every_drawing(names):
    """One of each kind, with these names wherever there is one."""
    k = len(names)
    confusion = np.random.default_rng(0).integers(1, 30, (k, k))
    line = np.linspace(0, 1, 5)
    return {
        "trades": charts.trades(
            names[0],
            (names[0], names[1]),
            [Trade(name, line, line**2, 0.5) for name in names],
            chance=True,
        ),
        "network": network_drawing(layers(ARCHITECTURES["2012"], 10, 227), names[0]),
        "curves": charts.curves(names[0], [Curve(name, [1.0, 0.5], mark=2) for name in names]),
        "bars": charts.class_bars(names, [10] * k, [3] * k),
        "profile": charts.class_profile(names, [10] * k, [3] * k),
        "map": charts.confusion_map(names, confusion),
        "large map": charts.confusion_map(names, confusion, large=True),
        "reliability": charts.reliability_diagram(names[0], BINS),
        "effect": charts.main_effect(names[0], [Level(n, 0.5, [0.4], (0.3, 0.6)) for n in names]),
        "parallel": charts.parallel_coordinates(
            [names[0], names[1]], [[name, name] for name in names], np.linspace(0, 1, k).tolist(), 1
        ),
    }


def every_chart(names):
    """The same, as they stand in a page."""
    return {kind: drawing.inline for kind, drawing in every_drawing(names).items()}


@pytest.fixture(scope="module")
def plain():
    return every_chart(["cat", "dog", "eel"])


@pytest.fixture(scope="module")
def hostile():
    return every_chart(HOSTILE)


@pytest.mark.slow
def test_equal_figures_are_equal_bytes(plain):
    assert every_chart(["cat", "dog", "eel"]) == plain


@pytest.mark.parametrize(
    "kind", ["curves", "bars", "map", "reliability", "trades", "effect", "parallel", "network"]
)
def test_colours_are_the_pages(plain, kind):
    drawing = plain[kind]
    assert "var(--" in drawing
    colours = {found.lower() for found in re.findall(r"#[0-9a-fA-F]{6}\b", drawing)}
    assert not colours, "a colour that does not follow dark mode"
    assert "DejaVu" not in drawing  # nor its fonts


@pytest.fixture(scope="module")
def files():
    """(SVG, PNG) of each kind."""
    return {kind: (one.svg, one.png) for kind, one in every_drawing(["cat", "dog", "eel"]).items()}


def test_each_colour_stands_for_one():
    assert len(set(LIGHT.values())) == len(LIGHT)


@pytest.mark.slow
def test_a_file_has_the_colours_of_paper_and_text_as_text(files):
    for kind, (content, picture) in files.items():
        text = content.decode("utf-8")
        root = ElementTree.fromstring(text)
        assert "var(" not in text, kind
        assert re.findall(r"#[0-9a-f]{6}\b", text)
        assert root[0].get("fill") == LIGHT["paper"]
        assert "hover" not in text
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3)
        assert (pixels == 255).all(1).mean() > 0.2, f"{kind} is not on white"
        if kind in ("bars", "map"):
            assert "eel" in "".join(root.itertext())


@pytest.mark.slow
def test_equal_files_are_equal_bytes(files):
    again = every_drawing(["cat", "dog", "eel"])
    for kind, (text, picture) in files.items():
        assert again[kind].svg == text
        assert again[kind].png == picture


@pytest.mark.slow
def test_a_png_can_be_printed():
    picture = Image.open(io.BytesIO(charts.curves("loss", [Curve("", [1, 2])]).png))
    assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert picture.width == round(380 / 72 * 300)
    names = [str(number) for number in range(150)]
    large = charts.confusion_map(names, np.eye(150, dtype=np.int64), large=True)
    assert Image.open(io.BytesIO(large.png)).size == (3600, 3600)


def test_files_are_named_after_their_titles():
    assert charts.curves("peak memory, GiB", []).name == "peak-memory-gib"
    assert charts.curves("שלום", []).name == "figure"


def test_nothing_leaks_out_of_a_figure(plain):
    for drawing in plain.values():
        root = ElementTree.fromstring(drawing)
        assert root.tag == "svg"
        assert root.get("width") is None  # it is as wide as its place
        used = set(re.findall(r'="(?:url\()?#([^")]+)', drawing))
        assert {one.get("id") for one in root.iter() if one.get("id")} <= used
        assert not list(root.iter("style"))


def test_names_used_inside_figures_differ_between_figures():
    one, other = (
        charts.curves("loss", [Curve("", [1, 2])]).inline,
        charts.curves("lr", [Curve("", [1, 2])]).inline,
    )
    ids = [set(re.findall(r' id="([^"]+)"', drawing)) for drawing in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_names_are_text(hostile):
    for kind, drawing in hostile.items():
        root = ElementTree.fromstring(drawing)  # well formed, whatever the names are
        tags = {one.tag for one in root.iter()}
        expected = {"svg", "g", "path", "text", "tspan", "use", "defs", "clipPath", "rect", "title"}
        assert tags <= expected | {"image"}, kind
        for one in root.iter():
            assert not any(name.startswith("on") for name in one.attrib), kind
            target = one.get("href", "#")
            assert target.startswith(("#", "data:image/png;base64,")), kind
    words = "".join(ElementTree.fromstring(hostile["bars"]).itertext())
    assert "<script>alert" in words
    assert "$\\frac{1}{$" in words  # not read as mathematics
    assert "שלום עולם" in words
    assert "🐈‍⬛ 猫" in words


def test_labels_are_short_and_hold_what_xml_can_hold():
    assert label("a\x00b\nc\udcff") == "a�b�c�"
    assert label("x" * 100, 10) == "x" * 9 + "…"
    assert label("exactly 10", 10) == "exactly 10"


@pytest.mark.slow
def test_users_settings_do_not_change_figures(plain):
    import matplotlib

    with matplotlib.rc_context({"axes.facecolor": "#ff0000", "lines.linewidth": 9}):
        assert every_chart(["cat", "dog", "eel"]) == plain
        assert matplotlib.rcParams["lines.linewidth"] == 9  # and ours do not stay
    assert matplotlib.rcParams["text.parse_math"]


def test_confused_classes_stand_together():
    confusion = 100 * np.eye(6, dtype=np.int64)
    for one, other in ((0, 3), (1, 4), (2, 5)):
        confusion[one, other] = confusion[other, one] = 20
    order = charts.clustered(confusion)
    assert sorted(order) == list(range(6))
    for one in range(3):
        assert abs(order.index(one) - order.index(one + 3)) == 1


@pytest.mark.parametrize("k", [1, 2, 3, 30])
def test_classes_without_images_or_confusions_are_clustered_too(k):
    assert sorted(charts.clustered(np.zeros((k, k), dtype=np.int64))) == list(range(k))
    assert sorted(charts.clustered(np.eye(k, dtype=np.int64))) == list(range(k))


def test_a_map_tells_its_cells():
    names = [f"class {number}" for number in range(60)]
    confusion = 20 * np.eye(60, dtype=np.int64)
    confusion[3, 7] = 5
    root = ElementTree.fromstring(charts.confusion_map(names, confusion).inline)
    told = {one.text: one for one in root.iter("title")}
    assert "class 3, taken for class 7: 5 of 25" in told
    assert "class 3: 20 of 25 right" in told
    [rectangle] = [
        one for one in root.iter("rect") if one.find("title") is not None
        and one.find("title").text == "class 3, taken for class 7: 5 of 25"
    ]  # fmt: skip
    others = [one for one in root.iter("rect") if one.find("title") is not None]

    def place(one):
        """(x, y, width) of a rectangle."""
        return [float(one.attrib[name]) for name in ("x", "y", "width")]

    x, y, width = place(rectangle)
    left, top, _ = [place(one) for one in others if place(one)[2] > 5 * width][3]
    assert y == pytest.approx(top, abs=0.2)
    assert (x - left) / width == pytest.approx(7, abs=0.1)


def test_calibration_counts_are_written():
    bins = reliability(np.array([[0.9, 0.1]] * 1234 + [[0.6, 0.4]]), np.zeros(1235, np.int64))
    words = [
        one.text
        for one in ElementTree.fromstring(charts.reliability_diagram("x", bins).inline).iter("text")
    ]
    assert {"1,234", "1"} <= set(words)


def test_a_curve_marks_the_chosen_epoch_and_leaves_gaps():
    marked = charts.curves("loss", [Curve("a", [3.0, float("nan"), 1.0], mark=3)]).inline
    plain = charts.curves("loss", [Curve("a", [3.0, float("nan"), 1.0])]).inline
    beyond = charts.curves("loss", [Curve("a", [3.0, float("nan"), 1.0], mark=2)]).inline
    assert marked.count("<use") == plain.count("<use") + 1
    assert beyond == plain  # there is no point to mark
    assert "nan" not in marked.lower()


def test_equal_accuracies_are_no_more_than_they_are():
    equal = charts.parallel_coordinates(["lr"], [["1"], ["2"]], [1.0, 1.0], 0).inline
    assert "100.0 %" in equal
    assert "200.0 %" not in equal
    effect = charts.main_effect("lr", [Level("1", 1.0, [1.0]), Level("2", 1.0, [1.0])]).inline
    assert "100 %" in effect
    assert "102 %" not in effect


def test_numbers_are_sorted_as_numbers():
    found = sorted(["0.5", "none", "1e-05", "10", "9", "adam"], key=charts.by_number)
    assert found == ["1e-05", "0.5", "9", "10", "adam", "none"]
