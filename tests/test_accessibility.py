"""axe-core finds no serious or critical fault on any page, on a telephone in the dark and on a desk
in the light; each state of a page in turn."""

import shutil

import pytest
from browsers import DESK, PHONE, browser, needs_browser, opened
from long.teach import teaching
from makers import Colours, class_folders, encoded, noise
from servers import Running, picture

import alexnet

axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = [
    *needs_browser,
    # colours do not know the size, nor places the colours
    pytest.mark.parametrize(
        ("size", "scheme"), [(PHONE, "dark"), (DESK, "light")], ids=["dark-phone", "light-desk"]
    ),
]
__all__ = ["browser"]


def require_none(page, state):
    found = axe.Axe().run(page).response["violations"]
    told = [
        f"{state}: {one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]} "
        f"{one['nodes'][0]['failureSummary'][:300]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert not told, "\n".join(told)


def test_the_page_that_teaches(size, scheme, browser, tmp_path):
    folder = tmp_path / "things"
    with teaching(folder) as (_, home), opened(browser, home, size, color_scheme=scheme) as page:
        page.locator("#status", has_text="Add two classes").wait_for()
        require_none(page, "empty")
        class_folders(folder, {"cat": 5, "dog": 5}, (40, 40))
        (folder / "cat" / "no.png").write_bytes(b"no picture")
        page.locator("#accuracy:not([hidden])").wait_for()
        page.set_input_files("#file", files=[{"name": "a.png", "mimeType": "image/png",
                                              "buffer": encoded(noise())}])  # fmt: skip
        page.locator("#bars li").nth(1).wait_for()
        require_none(page, "taught")
        page.get_by_role("button", name="Delete class dog").click()
        page.get_by_role("button", name="Undo").wait_for()
        page.get_by_label("Name of a new class").fill("a/b")
        page.keyboard.press("Enter")
        page.locator("#trouble:not([hidden])").wait_for()
        require_none(page, "something is wrong")
        page.get_by_label("0.png, of cat: move or delete").click()
        require_none(page, "a picture's menu")


def test_the_page_that_mends(size, scheme, browser, photos_run, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_CACHE", str(photos_run.parent / "cache"))
    flags = ["--mend", "--labels", str(tmp_path / "c.csv")]
    with (
        teaching(photos_run, *flags) as (_, home),
        opened(browser, home, size, color_scheme=scheme) as page,
    ):
        page.locator("#look:not([hidden])").wait_for()
        require_none(page, "a picture")
        page.keyboard.press("o")
        page.locator("#other[open]").wait_for()
        require_none(page, "classes")
        page.keyboard.press("Escape")
        total = int(page.locator("#count").inner_text().split()[2])
        for count in range(1, total + 1):
            page.keyboard.press("d")
            page.locator("#count", has_text=f"{count} of ").wait_for()
        page.locator("#none:not([hidden])").wait_for()
        require_none(page, "the end")


def test_the_page_that_classifies(size, scheme, browser):
    running = Running({"colours": Colours(names=("red", "green", "blue", "grey"))})
    try:
        home = f"http://localhost:{running.port}/"
        with opened(browser, home, size, color_scheme=scheme) as page:
            page.locator("#model option").first.wait_for(state="attached")
            require_none(page, "empty")
            page.set_input_files("#file", files=[{"name": "a.png", "mimeType": "image/png",
                                                  "buffer": picture("red")}])  # fmt: skip
            page.locator("#answers:not([hidden]) li").first.wait_for()
            require_none(page, "answered")
    finally:
        running.close()


@pytest.fixture(scope="module")
def report(photos_run, tmp_path_factory):
    run = shutil.copytree(photos_run, tmp_path_factory.mktemp("report") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALEXNET_CACHE", str(photos_run.parent / "cache"))
        from alexnet.training.train import prepare_report

        prepare_report(run)
        return alexnet.report(run)


def test_the_report(size, scheme, browser, report):
    with opened(browser, report.as_uri(), size, color_scheme=scheme) as page:
        for folded in page.locator("details").all():
            folded.evaluate("one => { one.open = true; }")
        require_none(page, "everything unfolded")
