"""Pages: their numbers are those of the run, they need nothing from outside, and hostile names are
inert."""

import csv
import dataclasses
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from makers import HOSTILE, data_uri, run_directory, write_image

from alexnet.atomic import write_json
from alexnet.cli import main
from alexnet.errors import InputError, RunError
from alexnet.marks import kind_of
from alexnet.presets import RECIPES
from alexnet.reporting.comparison import common, compare, scores, short_names
from alexnet.reporting.illustrations import Album, read_data_state, read_illustrations
from alexnet.reporting.report import failings, same_recipe, write_report
from alexnet.runs.directory import Predictions, RunDirectory, Settings
from alexnet.scoring import metrics as figures
from alexnet.scoring.conformal import Calibration, abstaining
from alexnet.sweeping import any_report
from alexnet.sweeping.sweep_page import write_sweep_page

pytestmark = pytest.mark.usefixtures("drawn_once")
NO_BREAK = "\N{NO-BREAK SPACE}"
# every attribute through which a page could fetch, run or send something
ADDRESSES = {"src", "href", "srcset", "action", "formaction", "data", "poster", "background"}
ADDRESSES |= {"xlink:href", "ping", "cite", "manifest"}
ELEMENTS = set(
    "html head meta title style body nav section a h1 h2 h3 p b div dl dt dd small figure "
    "figcaption svg g path text tspan use defs clippath rect image table tr th td details "
    "summary bdi span img pre footer code".split()
)


class Page(HTMLParser):
    """Everything in a page: elements, addresses, attributes that run, text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.addresses, self.running, self.words = set(), [], [], []
        self.policy, self.titles, self.hidden = "", [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)
        self.hidden = tag == "style"
        for name, value in attributes:
            if name in ADDRESSES:
                self.addresses.append(value)
            if name.startswith("on"):
                self.running.append(name)
            if name == "title":
                self.titles.append(value)
        found = dict(attributes)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).replace(NO_BREAK, " ").split())


def opened(path):
    """The page, after everything that must hold of all of them."""
    page = Page(path.read_text(encoding="utf-8"))
    assert page.policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert page.elements <= ELEMENTS
    assert not page.running
    text = path.read_text(encoding="utf-8")
    for address in page.addresses:
        if address.startswith("#"):
            assert f' id="{address[1:]}"' in text, address
        elif not re.match(r"data:image/(png|jpeg|webp);base64,", address):
            assert ":" not in address
            assert (path.parent / unquote(address)).is_file(), address
    assert "url(http" not in path.read_text(encoding="utf-8")
    return page


def picture(number, **more):
    return {"id": f"cat/{number}.jpg", "image": data_uri(number), "label": "cat"} | more


def illustrations(label="cat", guess="dog"):
    """Some of everything."""
    wrong = [
        picture(
            n, id=f"{label}-{n}", label=label, guess=guess, p=0.9, p_label=0.01, cam=data_uri(9)
        )
        for n in range(3)
    ]
    return {
        "samples": [picture(1, guess="cat", p=0.8), picture(2, label=label, guess=guess, p=0.7)],
        "mistakes": wrong,
        "confident": wrong,
        "confusions": [{"label": label, "guess": guess, "count": 7, "images": [data_uri(3)]}],
        "filters": data_uri(4),
        "units": [
            {"layer": "conv5", "unit": 17, "images": [data_uri(5), data_uri(6, kind="JPEG")]}
        ],
        "neighbours": [
            picture(7, guess=guess, neighbours=[picture(8, label=label, distance=0.25)])
        ],
    }


def data_state(leaks=()):
    return {
        "classes": {"cat": {"train": 100, "val": 10, "test": 20}, "dog": {"train": 90}},
        "image_size": 64,
        "greyscale": 3,
        "left_out": 1,
        "blank": ["cat/white.jpg"],
        "duplicates": {
            "exact": 4,
            "near": 5,
            "across_splits": 2,
            "examples": [
                {
                    "ids": ["cat/a.jpg", "cat/b.jpg"],
                    "splits": ["train", "test"],
                    "images": [data_uri(1), data_uri(1)],
                    "distance": 2.5,
                }
            ],
        },
        "leaks": list(leaks),
        "sizes": {"width": [30, 640, 4000], "height": [20, 480, 3000]},
    }


@pytest.fixture
def run(tmp_path):
    return run_directory(tmp_path / "run")


# -- one run


@pytest.mark.slow
def test_the_numbers_are_those_of_the_run(run):
    assert write_report(run) == run / "report.html"
    page = opened(run / "report.html")
    found = json.loads((run / "metrics.json").read_text())
    for key in ("top1", "chance", "balanced_accuracy"):
        assert f"{100 * found[key]:.2f} %" in page.text
    low, high = found["top1_interval"]
    assert f"between {100 * low:.2f} % and {100 * high:.2f} % right (95 % interval" in page.text
    assert "another training may differ by more" in page.text
    assert "top-5" not in page.text  # of three classes
    for three in (*found["per_class"].values(), found["macro"], found["weighted"]):
        values = [three["precision"], three.get("recall", three.get("top1")), three["f1"]]
        assert " ".join(f"{100 * one:.1f} %" for one in values) in page.text
    assert f"ECE {found['ece']:.4f}, NLL {found['nll']:.4f}" in page.text
    for name, one in found["per_class"].items():
        told = f"{name}: {100 * one['top1']:.1f} %, {round(one['n'] * one['top1'])} of {one['n']}"
        assert told in page.text
    confusion = np.array(found["confusion"])
    assert f"cat, taken for dog: {confusion[0, 1]} of 20" in page.text
    assert "alexnet train some/photos --out" in page.text
    assert "61.5 seconds" in page.text
    assert "3 epochs" in page.text
    assert "no illustrations.json" in page.text


def snapshot_of(folder):
    """Every file below a folder with its content."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_an_equal_run_is_an_equal_page(run, tmp_path, drawn_once):
    first = snapshot_of(write_report(run, tmp_path / "a" / "page.html").parent)
    drawn_once.clear()
    assert snapshot_of(write_report(run, tmp_path / "b" / "page.html").parent) == first
    assert len(first) > 20  # its figures and tables too


def test_sections_are_in_order(run):
    write_json(run / "illustrations.json", illustrations())
    write_json(run / "data.json", data_state())
    page = write_report(run).read_text(encoding="utf-8")
    headings = re.findall('<h2 data-of="([a-z]+)">(.*?)</h2>', page)
    assert [heading for _, heading in headings] == [
        "Training", "How well each class is found", "Confusion matrix: what is taken for what",
        "Images that were confused", "The hardest mistakes", "The most confident mistakes",
        "Samples", "Can its confidence be trusted?",
        "When it may say that it does not know", "Precision against recall, and the ROC",
        "What the data looked like", "What it learned to see", "Nearest neighbours", "Speed",
        "How to repeat it",
    ]  # fmt: skip
    links = re.findall('<a href="#([a-z]+)">(.*?)</a>', page)
    assert links == headings, "the list of contents"
    opened(run / "report.html")


def test_pictures_and_what_was_made_of_them(run):
    write_json(run / "illustrations.json", illustrations())
    page = write_report(run)
    text, found = page.read_text(encoding="utf-8"), opened(page)
    for number in range(1, 10):
        assert data_uri(number, kind="JPEG" if number == 6 else "PNG") in text
    assert "✓ 80 % cat" in found.text
    assert "✗ 90 % dog" in found.text
    assert "is 1 % cat" in found.text
    assert "conv5 , unit 17" in found.text
    assert "illustrations.json" not in found.text


def test_the_score_without_leaks(run):
    predictions = RunDirectory(run).predictions()
    leaks = [*predictions.ids[:10], "not/evaluated.jpg"]
    write_json(run / "data.json", data_state(leaks))
    page = opened(write_report(run))
    right = int(predictions.hits[10:].sum())
    low, high = figures.wilson_interval(right, 50)
    assert f"Without 10 leaked images, {100 * right / 50:.2f} % of 50 are right" in page.text
    assert f"({100 * low:.2f} % to {100 * high:.2f} %)" in page.text
    assert "220 100" not in page.text
    assert "220" in page.text  # images in all
    assert "4 exact, 5 near" in page.text


@pytest.mark.slow
def test_a_temperature_shows_calibration_after_scaling(run):
    found = json.loads((run / "metrics.json").read_text())
    write_json(run / "metrics.json", found | {"temperature": 2.5})
    page = opened(write_report(run))
    predictions = RunDirectory(run).predictions()
    scaled = figures.metrics(
        predictions.logits / np.float32(2.5), predictions.labels, found["names"], "test"
    )
    assert f"ECE {scaled['ece']:.4f}, NLL {scaled['nll']:.4f}" in page.text
    assert f"ECE {found['ece']:.4f}, NLL {found['nll']:.4f}" in page.text
    assert "this temperature was fitted on validation images." in page.text  # as 0.1.0 wrote it
    write_json(run / "metrics.json", found | {"temperature": 2.5, "temperature_interval": [2.5, 3]})
    told = "fitted on validation images: the cautious end of its 95 % interval 2.50 to 3.00"
    assert told in opened(write_report(run)).text


def test_what_abstaining_comes_to(run, capsys):
    assert "for a rate of 5 % 19 validation images at least" in opened(write_report(run)).text
    directory = RunDirectory(run)
    predictions = directory.predictions()
    steps = np.linspace(0.1, 1, 30, dtype=np.float32)
    found = Calibration(steps, steps, steps, steps, np.zeros((1, 1), np.float16))
    directory.write_calibration(found)
    page = opened(write_report(run)).text
    assert "which 30 validation images say" in page
    for rate in (0.05, 0.1, 0.2):  # for 1 % they are too few
        told = abstaining(found, predictions.logits, predictions.labels, rate)
        assert f"{100 * (1 - told['coverage']):.1f} %" in page
        assert f"{told['set_size']:.2f}" in page
    (run / "calibration.npz").write_bytes(b"PK")
    assert "at least" in opened(write_report(run)).text
    assert "calibration.npz is damaged" in capsys.readouterr().err


def test_where_no_temperature_is_applied_the_page_says_why(run):
    found = json.loads((run / "metrics.json").read_text())
    for interval, why in (
        ([0.01, 1.2], "would help (95 % interval 0.01 to 1.20)"),
        ("<b>", ""),
        (["<b>", 1.2], ""),
    ):
        more = {"temperature": 1.0, "temperature_interval": interval}
        write_json(run / "metrics.json", found | more)
        page = opened(write_report(run))
        assert "after temperature scaling" not in page.text
        assert why in page.text
        assert ("No temperature is applied" in page.text) == bool(why)


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_named_recipe_is_recognised(name):
    recipe = RECIPES[name].recipe
    others = {"seed": 7, "device": "cpu"}
    asked = settings_of(recipe.replace(**others))
    # 0.1.0 wrote what these fields came to
    side = 256 if recipe.image_size == "auto" else recipe.image_size
    filled = {
        "model": "small" if recipe.weights == "none" else "2014",
        "weights": "backbone",
        "image_size": side,
        "crop": 224 if recipe.image_size == "auto" else side + 2 * recipe.border,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    open_ = {name: one for name, one in filled.items() if getattr(recipe, name) == "auto"}
    for settings in (asked, settings_of(recipe.replace(**others, **open_))):
        assert same_recipe(recipe, settings)
        for change in ({"epochs": recipe.epochs + 1}, {"lr": 0.123}):
            assert not same_recipe(recipe, settings_of(settings.asked.replace(**change)))


def settings_of(recipe):
    return Settings("data", recipe, recipe, [{}], recipe.digest)


def test_the_expected_number_stands_beside_the_score(tmp_path):
    run = run_directory(tmp_path / "digits", **RECIPES["digits"].recipe.to_dict())
    page = opened(write_report(run))
    assert RECIPES["digits"].expected in page.text
    other = run_directory(tmp_path / "other")
    assert RECIPES["digits"].expected not in opened(write_report(other)).text


def test_a_head_that_was_solved_has_no_curves(run):
    (run / "epochs.jsonl").unlink()
    found = json.loads((run / "metrics.json").read_text())
    found.pop("best_epoch")
    write_json(run / "metrics.json", found)
    page = opened(write_report(run))
    assert "Training" not in page.text
    assert "Speed" not in page.text
    assert not (run / "epochs.csv").exists()


@pytest.mark.slow
def test_waiting_and_memory_are_shown_where_they_are_known(run):
    assert "peak memory" not in opened(write_report(run)).text
    lines = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
    more = {"waiting": 0.25, "peak_memory": 3 * 2**30}
    (run / "epochs.jsonl").write_text("\n".join(json.dumps(line | more) for line in lines))
    page = opened(write_report(run))
    assert "peak memory, GiB" in page.text
    assert "share of time spent waiting for data" in page.text


# -- files beside the page


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_every_figure_is_a_file_too(run):
    page = opened(write_report(run))
    drawn = write_report(run).read_text(encoding="utf-8").count("<svg")
    linked = {address for address in page.addresses if address.startswith("figures/")}
    assert len(linked) == 2 * drawn
    assert {f"figures/{path.name}" for path in (run / "figures").iterdir()} == linked
    assert "figures/confusion-matrix.svg" in linked
    for path in (run / "figures").iterdir():
        start = path.read_bytes()[:200]
        assert start.startswith(b"\x89PNG") if path.suffix == ".png" else b"<?xml" in start


def test_every_table_is_a_file_too(run):
    page = opened(write_report(run))
    found = json.loads((run / "metrics.json").read_text())
    assert {"epochs.csv", "classes.csv", "confusion.csv"} <= set(page.addresses)
    heading, *rows = table(run / "classes.csv")
    assert heading == ["class", "name", "images", "precision", "recall", "f1"]
    for row in rows[:3]:
        one = found["per_class"][row[1]]
        assert [float(value) for value in row[2:]] == [
            one["n"], one["precision"], one["top1"], one["f1"],
        ]  # fmt: skip
    assert [float(value) for value in rows[3][3:]] == list(found["macro"].values())
    assert [float(value) for value in rows[4][3:]] == list(found["weighted"].values())
    heading, *rows = table(run / "confusion.csv")
    assert heading[1:] == found["names"]
    assert [[int(value) for value in row[1:]] for row in rows] == found["confusion"]
    heading, *rows = table(run / "epochs.csv")
    epochs = RunDirectory(run).epochs()
    assert [float(row[heading.index("val_loss")]) for row in rows] == [
        one["val_loss"] for one in epochs
    ]


@pytest.mark.slow
def test_a_page_elsewhere_keeps_its_files_beside_it(run, tmp_path):
    page = opened(write_report(run, tmp_path / "mine" / "my page.html"))
    assert "my%20page_files/loss.png" in page.addresses
    assert "my%20page_files/classes.csv" in page.addresses
    assert not (run / "figures").exists()
    assert not (run / "classes.csv").exists()
    assert kind_of(tmp_path / "mine" / "my page_files"), "it could be taken for data"


@pytest.mark.slow
def test_formulas_stay_text_in_tables(tmp_path):
    run = run_directory(tmp_path / "run", names=("=1+1", "@a", "b"))
    write_report(run)
    assert [row[0] for row in table(run / "confusion.csv")[1:]] == ["'=1+1", "'@a", "b"]


def test_names_of_files_are_linked_while_they_are_there(run, tmp_path):
    photos = tmp_path / "all my photos"
    write_image(photos / "cat" / "1 ä.jpg")
    write_image(tmp_path / "secret.jpg")
    fields = json.loads((run / "recipe.json").read_text())
    write_json(run / "recipe.json", fields | {"data": str(photos)})
    ids = ["cat/1 ä.jpg", "cat/gone.jpg", "../secret.jpg", str(tmp_path / "secret.jpg")]
    samples = [picture(n, id=id_, guess="cat", p=0.9) for n, id_ in enumerate(ids)]
    write_json(run / "illustrations.json", illustrations() | {"samples": samples})
    page = opened(write_report(run))
    linked = [unquote(one) for one in page.addresses if "jpg" in one]
    assert linked == ["../all my photos/cat/1 ä.jpg"]
    for id_ in ids:
        assert id_ in page.text


def test_what_it_cannot_do_is_said(run):
    names, chance = ["cat", "dog", "eel"], {"top1_interval": [0.3, 0.6], "chance": 0.34}
    confusion = np.array([[15, 15, 0], [15, 15, 0], [0, 30, 0]])
    told = list(failings(names, chance, confusion))
    assert "not shown to do better than always guessing" in told[0]
    assert told[1] == "No image is recognised of: eel."
    assert "cat and dog are not told apart: of 60 images taken for one of the two, 30" in told[2]
    assert len(told) == 3
    sound = {"top1_interval": [0.7, 0.9], "chance": 0.34}
    assert not list(failings(names, sound, np.array([[16, 14, 0], [14, 16, 0], [0, 0, 1]])))
    found = json.loads((run / "metrics.json").read_text())
    write_json(run / "metrics.json", found | {"top1_interval": [0.1, 0.9]})
    assert "not shown to do better" in opened(write_report(run)).text


# -- hostile names, untrusted files


@pytest.fixture
def hostile_run(tmp_path):
    names = [name for name in HOSTILE if name]
    run = run_directory(tmp_path / '<b onclick="x">$run$', names=names, n=10 * len(names))
    found = illustrations(label=HOSTILE[0], guess=HOSTILE[2])
    found["samples"].append(picture(3, id=HOSTILE[4], label=HOSTILE[6], guess=HOSTILE[7], p=0.4))
    found["units"][0]["layer"] = found["neighbours"][0]["id"] = HOSTILE[2]
    (run / "illustrations.json").write_text(json.dumps(found))  # as ASCII: surrogates too
    state = data_state([HOSTILE[0]])
    state["classes"] = {name: {"train": 1} for name in HOSTILE}
    state["blank"] = HOSTILE
    (run / "data.json").write_text(json.dumps(state))
    return run


@pytest.mark.slow
def test_hostile_names_are_inert(hostile_run):
    page = opened(write_report(hostile_run))  # no element, address or attribute but ours
    assert HOSTILE[0] in page.text
    assert HOSTILE[2] in page.titles  # in attributes they are text too
    assert "שלום עולם" in page.text
    assert "🐈‍⬛ 猫" in page.text


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_browser_fetches_nothing_and_finds_room(hostile_run, sweep, tmp_path):
    """Nor is anything clipped, on a telephone, a tablet or a screen; and what a telephone shows
    before anything is unfolded is short."""
    playwright = pytest.importorskip("playwright.sync_api")
    others = [
        run_directory(tmp_path / f"a rather long name of a run, {n}", seed=n, n=90, lr=n / 10)
        for n in range(1, 5)
    ]
    write_json(others[0] / "illustrations.json", illustrations())
    pages = [write_report(hostile_run), write_report(others[0]), write_sweep_page(sweep)]
    pages.append(compare(others, tmp_path / "comparison.html"))
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for page_file, width in itertools.product(pages, (390, 768, 1280)):
            page = browser.new_page(viewport={"width": width, "height": 844})
            said, asked = [], []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("dialog", lambda dialog, said=said: said.append(dialog.message))
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(page_file.as_uri())
            if width == 390 and page_file != pages[0]:  # whose names are endless
                assert page.evaluate("document.documentElement.scrollHeight") < 8 * 844
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, page_file
            assert not said
            assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
            page.close()
        browser.close()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_links_of_the_contents_unfold_and_paper_shows_all(run):
    from browsers import PHONE, chromium, expect, opened

    with chromium() as browser, opened(browser, write_report(run).as_uri(), PHONE) as page:
        section = page.locator("#calibration")
        expect(section).to_be_hidden()
        page.click("nav a[href='#calibration']")
        expect(section).to_be_visible()
        expect(page.locator("#speed")).to_be_hidden()
        page.emulate_media(media="print")
        expect(page.locator("#speed")).to_be_visible()


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/x.png",
        "data:text/html;base64,PHNjcmlwdD4=",
        "data:image/svg+xml;base64,PHN2Zz4=",
        'data:image/png;base64,AAAA" onerror="alert(1)',
        "data:image/png;base64,AAAA\n",
        "data:image/png,AAAA",
        "javascript:alert(1)",
        "data:image/png;base64,",
        7,
        None,
        ["data:image/png;base64,AAAA"],
    ],
)
def test_only_pictures_are_taken_for_pictures(run, uri):
    found = illustrations()
    found["samples"] = [picture(1, image=uri, guess="cat")]
    found["mistakes"][0]["cam"] = uri
    found["filters"] = uri
    write_json(run / "illustrations.json", found)
    shown = read_illustrations(RunDirectory(run), Album(10**6))
    assert not shown.samples
    assert not shown.filters
    assert shown.mistakes[0].image
    assert not shown.mistakes[0].cam
    opened(write_report(run))


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "null", "not json", '{"samples": 3}', '{"samples": [1, null, {"image": {}}]}',
        '{"units": [{"unit": -1}]}', '{"classes": [1], "duplicates": "x", "leaks": {"a": 1}}',
        '{"classes": {"cat": 3, "dog": {"train": "many"}}, "image_size": NaN}',
        '{"classes": {"cat": {"train": 1}}, "sizes": {"width": [1], "height": [1, 2, "3"]}}',
        '{"confusions": [{"label": 1, "count": 1e999}]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_damaged_illustrations_are_left_out(run, content):
    for name in ("illustrations.json", "data.json"):
        (run / name).write_text(content)
    opened(write_report(run))


@pytest.mark.slow
def test_too_many_pictures_are_left_out(run):
    heavy = data_uri(1, size=(200, 200))
    found = illustrations()
    found["samples"] = [picture(1, image=heavy, guess="cat", p=0.5)] * 24
    write_json(run / "illustrations.json", found)
    album = Album(10 * len(heavy) + 1)
    assert len(read_illustrations(RunDirectory(run), album).samples) == 10
    assert album.left_out >= 14
    found["samples"] = found["mistakes"] = [picture(1, image=heavy * 1, cam=heavy, guess="x")] * 99
    found["confident"] = found["mistakes"]
    write_json(run / "illustrations.json", found)
    page = write_report(run)
    assert page.stat().st_size < 3_000_000
    assert "pictures left out" in opened(page).text


def test_a_state_of_the_data_is_read(run):
    assert read_data_state(RunDirectory(run), Album(0)) is None
    write_json(run / "data.json", data_state(["cat/1.jpg"]))
    state = read_data_state(RunDirectory(run), Album(10**6))
    assert state.splits == ["train", "val", "test"]
    assert state.exact == 4
    assert state.twins[0].distance == 2.5
    assert state.leaks == ["cat/1.jpg"]


@pytest.mark.slow
def test_two_hundred_classes_fit(tmp_path):
    names = [f"class number {n}, with a rather long readable name" for n in range(200)]
    run = run_directory(tmp_path / "large", names=names, n=10_000, right=0.5)
    write_json(run / "illustrations.json", illustrations())
    page = write_report(run)
    assert page.stat().st_size < 3_000_000
    found = opened(page)
    assert "the map with all names" in found.text
    assert "all 200 classes" in found.text


# -- what is refused


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("recipe.json", None, "not a run directory"),
        ("metrics.json", None, "has no metrics.json"),
        ("metrics.json", "{}", "damaged .it has no 'top1_interval'"),
        ("metrics.json", "7", "no JSON object"),
        ("metrics.json", '{"top1_interval": 3}', "damaged"),
        ("recipe.json", '{"data": "x", "recipe": 3}', "recipe.json is damaged"),
        ("predictions.npz", None, "has no predictions.npz"),
        ("predictions.npz", "PK damaged", "no .npz archive"),
        ("epochs.jsonl", "{", "is damaged"),
        ("epochs.jsonl", "[]", "is damaged"),
    ],
)
def test_a_damaged_run_is_refused(run, file, content, message):
    (run / file).unlink()
    if content is not None:
        (run / file).write_text(content)
    with pytest.raises(RunError, match=message):
        write_report(run)
    assert not (run / "report.html").exists()


def test_figures_that_are_no_numbers_are_refused(run):
    found = json.loads((run / "metrics.json").read_text())
    write_json(run / "metrics.json", found | {"nll": "<b>"})
    with pytest.raises(RunError, match="'<b>' is no number"):
        write_report(run)


def test_figures_of_other_predictions_are_refused(run, tmp_path):
    other = run_directory(tmp_path / "other", n=30)
    shutil.copy(other / "predictions.npz", run / "predictions.npz")
    with pytest.raises(RunError, match=r"about 60 images in 3 classes, .* about 30 in 3"):
        write_report(run)


def test_labels_without_a_class_are_refused(run):
    zeros = np.zeros((2, 2), np.float32)
    found = Predictions(zeros, np.array([0, 2]), ["a", "b"], ["x", "y"])
    found.save(run / "predictions.npz")
    with pytest.raises(RunError, match="labels without a class"):
        write_report(run)


def test_epochs_hold_numbers_only(run):
    line = '{"epoch": 1, "val_loss": NaN, "note": "<b>", "best": true, "waiting": null}\n'
    (run / "epochs.jsonl").write_text(line)
    [found] = RunDirectory(run).epochs()
    assert set(found) == {"epoch", "best"}
    opened(write_report(run))


# -- comparisons


@pytest.mark.slow
def test_two_runs_are_compared_over_the_same_images(tmp_path):
    one = run_directory(tmp_path / "a" / "run", n=300, right=0.9, lr=0.1)
    other = run_directory(tmp_path / "b" / "run", n=300, right=0.6, seed=1, lr=0.2)
    page = opened(compare([one, other], tmp_path / "page.html"))
    a, b = RunDirectory(one).predictions().hits, RunDirectory(other).predictions().hits
    assert f"{100 * a.mean():.2f} %" in page.text
    assert f"{100 * (b.mean() - a.mean()):+.2f}".replace("-", "\N{MINUS SIGN}") in page.text
    assert "worse" in page.text
    assert f"All are right on {(a & b).sum()} images, none on {(~a & ~b).sum()}" in page.text
    assert "a/run" in page.text
    rows = scores(common([RunDirectory(one), RunDirectory(other)]))
    assert rows[1]["only_best"] == (a & ~b).sum()
    assert rows[1]["only_this"] == (~a & b).sum()
    assert "lr 0.1 0.2" in page.text
    assert "epochs" not in page.text.split("What differs")[1].split("Where they")[0]


@pytest.mark.slow
def test_the_tables_of_a_comparison(tmp_path):
    runs = [
        run_directory(tmp_path / name, n=90, lr=lr) for name, lr in (("one", 0.1), ("two", 0.2))
    ]
    page = opened(compare(runs, tmp_path / "page.html"))
    assert {"page_files/runs.csv", "page_files/loss.svg"} <= set(page.addresses)
    assert table(tmp_path / "page_files" / "recipes.csv") == [
        ["field", "one", "two"], ["lr", "0.1", "0.2"],
    ]  # fmt: skip
    heading, *rows = table(tmp_path / "page_files" / "runs.csv")
    hits = RunDirectory(runs[0]).predictions().hits
    assert float(rows[0][heading.index("accuracy")]) == hits.mean()


def test_a_small_difference_is_noise_and_a_planted_one_is_found(tmp_path):
    """A difference of 3 points over 5,000 images is found, one of 0.3 is not."""
    for lr, (name, right) in enumerate((("best", 0.80), ("near", 0.797), ("worse", 0.77)), 1):
        run_that_is_right(tmp_path / name, right, seed=lr, lr=lr)
    rows = scores(common([RunDirectory(tmp_path / name) for name in ("worse", "near", "best")]))
    assert [row["name"] for row in rows] == ["best", "near", "worse"]
    assert [row["beyond"] for row in rows] == [False, False, True]
    assert [row["so"] for row in rows[1:]] == ["cannot be told apart", "worse on these images"]


def run_that_is_right(path, share, seed, **fields):
    """On that share of 5,000 images, drawn with the seed."""
    run = run_directory(path, names=("a", "b"), n=5000, seed=seed, **fields)
    hits = np.random.default_rng(seed).permutation(5000) < round(share * 5000)
    logits = np.stack([hits, ~hits], 1).astype(np.float32)
    ids = [str(n) for n in range(5000)]
    found = Predictions(logits, np.zeros(5000, dtype=np.int64), ids, ["a", "b"])
    found.save(run / "predictions.npz")
    return run


@pytest.mark.slow
def test_runs_of_one_recipe_are_never_worse_and_tell_how_training_varies(tmp_path):
    right = {"one": (0.86, 0.1), "again": (0.79, 0.1), "other": (0.74, 0.2), "far": (0.2, 0.3)}
    runs = [
        run_that_is_right(tmp_path / name, share, seed=seed, lr=lr)
        for seed, (name, (share, lr)) in enumerate(right.items())
    ]
    page = opened(compare(runs[:2], tmp_path / "two.html"))
    assert "the same recipe" in page.text
    assert "worse" not in page.text.split("Each run is compared")[0]
    for others in (runs, [runs[0], *runs[2:]]):
        rows = {one["name"]: one for one in scores(common([RunDirectory(run) for run in others]))}
        # 7 points lie between trainings of one recipe: 12 prove nothing once that is known
        assert rows["other"]["so"] == (
            "cannot be told apart" if others is runs else "worse on these images"
        )
    repeated = [run_that_is_right(tmp_path / f"{n}", 0.8 + n / 1000, seed=9 + n) for n in range(4)]
    last = scores(common([RunDirectory(run) for run in [*repeated, runs[3]]]))
    assert [row["so"] for row in last[1:]] == [*["the same recipe"] * 3, "worse"]


@pytest.mark.slow
def test_pictures_of_images_on_which_runs_disagree(tmp_path):
    one = run_directory(tmp_path / "one", n=60, right=1.0)
    other = run_directory(tmp_path / "other", n=60, right=0.0, seed=1)
    write_json(one / "illustrations.json", {"samples": [picture(30, id="cat/30.jpg", guess="cat")]})
    text = compare([one, other], tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count(data_uri(30)) == 1


@pytest.mark.slow
def test_runs_with_some_common_images_are_compared_on_those(tmp_path):
    one, other = run_directory(tmp_path / "one", n=60), run_directory(tmp_path / "other", n=90)
    page = opened(compare([one, other], tmp_path / "page.html"))
    assert "the same 60 images, those that all runs evaluated, of up to 90" in page.text


def test_runs_that_cannot_be_compared(tmp_path):
    one = run_directory(tmp_path / "one")
    with pytest.raises(RunError, match="none is common"):
        compare([one, run_directory(tmp_path / "two", names=("x", "y", "z"))], tmp_path / "x.html")
    with pytest.raises(InputError, match="at least two different runs"):
        compare([one, one], tmp_path / "x.html")
    other = run_directory(tmp_path / "three")
    found = RunDirectory(other).predictions()
    wrong = dataclasses.replace(found, classes=["dog", "cat", "eel"])
    wrong.save(other / "predictions.npz")
    with pytest.raises(RunError, match=r"cat/0.jpg is 'cat' in .*one, and 'dog' in .*three"):
        compare([one, other], tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_short_names_tell_runs_apart(tmp_path):
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    assert short_names(paths) == ["a/run", "b/run"]
    assert short_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]


# -- calibration


def test_reliability_by_hand():
    probabilities = np.array([[0.95, 0.05], [0.97, 0.03], [0.4, 0.6]])
    bins = figures.reliability(probabilities, np.array([0, 1, 1]))
    assert bins.count.sum() == 3
    assert bins.count[14] == 2
    assert bins.right[14] == 1
    assert bins.confidence[14] == pytest.approx(1.92)
    assert bins.count[8] == 1  # 0.6 is the upper edge of the ninth
    expected = (abs(1 - 1.92) + abs(1 - 0.6)) / 3
    assert figures.calibration_error(probabilities, np.array([0, 1, 1])) == pytest.approx(expected)


# -- sweeps


FIELDS: list[tuple[str, list[Any]]] = [("lr", [0.1, 0.01]), ("model", ["small", "<2014>"])]


@pytest.fixture
def sweep(tmp_path):
    """A finished sweep of four trials, one of which failed."""
    folder = tmp_path / "sweep"
    rows, configurations = ["trial,lr,model,status,reason,epochs,best_epoch,val_top1,seconds"], []
    for number, (lr, model) in enumerate((lr, m) for lr in FIELDS[0][1] for m in FIELDS[1][1]):
        trial = run_directory(folder / "trials" / f"t{number}", seed=number)
        if number == 3:
            rows.append(f't3,{lr},{model},failed,"not finite: <script>",1,,,')
            continue
        top1 = [0.7, 0.69, 0.5][number]
        rows.append(f"{trial.name},{lr},{model},done,,3,2,{top1},2.5")
        configurations.append(
            {
                "settings": {"lr": lr, "model": model},
                "val_top1": top1,
                "interval": [top1, top1],
                "behind": 0.7 - top1,
                "behind_interval": [-0.01, 0.03] if number < 2 else [0.1, 0.3],
                "tied": number < 2,
            }
        )
    (folder / "results.csv").write_text("\n".join(rows) + "\n")
    grid = dict(FIELDS)
    definition = {"data": "some/photos", "recipe": {"lr": 1, "epochs": 3}, "grid": grid, "seeds": 1}
    write_json(folder / "sweep.json", definition)
    high = {"mean": 0.7, "scores": [0.7], "behind": None}
    low = {"mean": 0.5, "scores": [0.5], "behind": [0.2, 0.1, 0.3]}
    effect = {"values": {"0.1": high, "0.01": low}, "best": 0.1, "worst": 0.01, "difference": 0.2}
    words: dict[str, Any] = {
        "values": {'"small"': high, '"<2014>"': low},
        "best": "small",
        "worst": "<2014>",
    }
    words = words | {"difference": 0.0, "interval": [0.0, 0.0], "verdict": "none at all"}
    summary = {
        "trials": 4,
        "failed": 1,
        "images": 60,
        "seeds": 1,
        "winner": {"lr": 0.1, "model": "small"},
        "winner_trials": ["t0"],
        "val_top1": 0.7,
        "configurations": configurations,
        "effects": {"lr": effect | {"interval": [0.1, 0.3], "verdict": "matters"}, "model": words},
        "test": [{"n": 80, "top1": 0.65, "top1_interval": [0.54, 0.75], "top5": 1.0}],
    }
    write_json(folder / "summary.json", summary)
    return folder


@pytest.mark.slow
def test_a_sweep_in_one_page(sweep):
    assert write_sweep_page(sweep) == sweep / "report.html"
    page = opened(sweep / "report.html")
    assert page.text.count("cannot be told apart from the best") == 1
    assert page.text.count("worse on these images") == 1
    assert "on these images; another training may differ by more" in page.text
    assert "65.00 % of 80 test images are classified right with lr=0.1, model=small" in page.text
    assert "the test images were looked at once, afterwards" in page.text
    words = r"It matters: 0\.1 instead of 0\.01 brings \+20\.00 points of .* on these images\."
    assert re.search(words, page.text)
    assert "It did nothing at all" in page.text
    assert "not finite: <script>" in page.text
    assert "<2014>" in page.text
    assert "All trainings" in page.text


@pytest.mark.slow
def test_the_tables_of_a_sweep_are_linked(sweep, tmp_path):
    page = opened(write_sweep_page(sweep))
    assert {"results.csv", "configurations.csv"} <= set(page.addresses)
    heading, *rows = table(sweep / "configurations.csv")
    assert heading[:3] == ["lr", "model", "val_top1"]
    assert [row[:3] for row in rows] == [
        ["0.1", "small", "0.7"], ["0.1", "<2014>", "0.69"], ["0.01", "small", "0.5"],
    ]  # fmt: skip
    elsewhere = opened(write_sweep_page(sweep, tmp_path / "s.html"))
    assert {"sweep/results.csv", "s_files/configurations.csv"} <= set(elsewhere.addresses)


@pytest.mark.slow
def test_a_sweep_of_several_seeds(sweep):
    summary = json.loads((sweep / "summary.json").read_text())
    one = summary["test"][0]
    summary |= {"seeds": 2, "test": [one, one | {"top1": 0.75}]}
    write_json(sweep / "summary.json", summary)
    page = opened(write_sweep_page(sweep))
    assert "70.00 % of 80" in page.text
    assert "trained with 2 seeds" in page.text
    assert "they range from 65.00 % to 75.00 %" in page.text
    assert "worse on these images" not in page.text
    assert "how a training went, the latter pooled over all settings" in page.text


@pytest.mark.slow
def test_pruned_trials_are_curves_without_a_score(sweep):
    table = (sweep / "results.csv").read_text()
    failed = next(line for line in table.splitlines() if line.startswith("t3"))
    (sweep / "results.csv").write_text(table.replace(failed, "t3,0.01,<2014>,pruned,,1,,,"))
    page = opened(write_sweep_page(sweep))
    assert "1 given up early" in page.text
    assert "Failed trials" not in page.text


def test_a_sweep_of_listed_points(sweep):
    definition = json.loads((sweep / "sweep.json").read_text())
    write_json(sweep / "sweep.json", definition | {"grid": [{"lr": 0.1, "model": "small"}]})
    assert "sweep over lr, model" in opened(write_sweep_page(sweep)).text


@pytest.mark.parametrize("file", ["summary.json", "results.csv", "sweep.json"])
def test_an_unfinished_sweep_is_refused(sweep, file):
    (sweep / file).unlink()
    with pytest.raises(RunError, match="not the directory of a finished sweep"):
        write_sweep_page(sweep)


# -- the command


def test_no_run_is_no_report():
    with pytest.raises(InputError, match="no run to report on"):
        any_report.report([])


@pytest.mark.slow
def test_the_command_recognises_what_it_is_given(run, sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(run)]) == 0
    assert main(["report", str(sweep), "--out", str(tmp_path / "s.html")]) == 0
    other = run_directory(tmp_path / "other", seed=4)
    assert main(["report", str(run), str(other)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [str(run / "report.html"), str(tmp_path / "s.html"), "comparison.html"]
    assert "sweep over lr, model" in opened(tmp_path / "s.html").text
    assert "Comparison of run, other" in opened(tmp_path / "comparison.html").text


def test_the_command_refuses_in_words(run, sweep, tmp_path, capsys):
    for arguments, message in (
        ([], "there is no run to report on"),
        ([str(tmp_path / "missing")], "there is nothing at"),
        ([str(run), str(sweep)], "is a sweep, and runs can be compared only with runs"),
        ([str(run), str(run)], "at least two different runs"),
    ):
        assert main(["report", *arguments]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert not captured.out


def test_settings_are_those_of_the_run(run):
    assert RunDirectory(run).settings.data == "some/photos"
