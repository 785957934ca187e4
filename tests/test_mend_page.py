"""The page of `alexnet teach RUN --mend` in a real browser: by keys alone, and in two tabs."""

import csv
import os

import pytest
from browsers import DESK, PHONE, browser, expect, needs_browser, opened
from long.teach import teaching
from servers import until

pytestmark = needs_browser
__all__ = ["browser"]


@pytest.fixture
def home(photos_run, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_CACHE", str(photos_run.parent / "cache"))
    with teaching(photos_run, "--mend", "--labels", str(tmp_path / "c.csv")) as (_, home):
        yield home


def answers(tmp_path):
    if not (tmp_path / "c.csv").exists():
        return []
    with open(tmp_path / "c.csv", newline="") as file:
        return [(row["answer"], row["label"], row["path"]) for row in csv.DictReader(file)]


def looked(page, count):
    page.locator("#count", has_text=f"{count} of ").wait_for()


def question(page):
    """(given, suggested)"""
    words = page.locator("#question").inner_text().split()
    return words[1], words[-3]


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESK, "light")])
def test_labels_are_mended_by_keys_alone(size, scheme, browser, home, tmp_path):
    with opened(browser, home, size, color_scheme=scheme) as page:
        page.locator("#look:not([hidden])").wait_for()
        expected, first = [], question(page)
        for count, (key, answer) in enumerate(
            (("r", "right"), ("s", "other"), ("x", "remove"), ("d", "unsure")), 1
        ):
            given, suggested = question(page)
            page.keyboard.press(key)
            looked(page, count)
            expected.append((answer, {"right": given, "other": suggested}.get(answer, "")))
        given, suggested = question(page)
        [third] = {"cat", "dog", "eel"} - {given, suggested}
        page.keyboard.press("o")
        page.locator("#other[open]").wait_for()
        page.keyboard.press(third[0])  # a list is typed into
        page.keyboard.press("Enter")
        looked(page, 5)
        assert [one[:2] for one in answers(tmp_path)] == [*expected, ("other", third)]
        page.keyboard.press("o")
        page.keyboard.press("Escape")
        page.locator("#other:not([open])").wait_for(state="attached")
        for count in range(4, -1, -1):
            page.keyboard.press("u")
            looked(page, count)
        assert answers(tmp_path) == [] and question(page) == first
        page.keyboard.press("u")  # nothing is left to take back
        expect(page.locator("#trouble")).to_be_hidden()
        shown = page.locator("#picture").evaluate("image => image.decode().then(() => image.width)")
        assert shown > 100


def test_two_tabs_and_the_end(browser, home, tmp_path):
    with opened(browser, home) as page, opened(browser, home) as other:
        for one in (page, other):
            one.locator("#look:not([hidden])").wait_for()
        page.keyboard.press("r")
        looked(page, 1)
        other.keyboard.press("x")  # of the picture that was answered
        other.locator("#trouble", has_text="answered before, in another tab").wait_for()
        looked(other, 1)
        assert [one[0] for one in answers(tmp_path)] == ["right"]
        total = int(page.locator("#count").inner_text().split()[2])
        for count in range(2, total + 1):
            other.keyboard.press("d")
            looked(other, count)
        other.locator("#none:not([hidden])").wait_for()
        expect(other.locator("#command")).to_contain_text("--labels")
        assert until(lambda: len(answers(tmp_path)) == total)
        paths = [one[2] for one in answers(tmp_path)]
        assert len({*paths}) == total and os.sep not in paths[0][:1]
