"""Pages in a real browser: one for a module, a fresh context for each test."""

import contextlib
import shutil

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
# What a page shows is always asked through `expect`, which waits: a browser draws when it likes.
expect = sync_api.expect
expect.set_options(timeout=30_000)
needs_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium"),
]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}

PASTE = """
colour => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 40;
  const pen = canvas.getContext("2d");
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 40, 40);
  return new Promise(done => canvas.toBlob(blob => {
    const data = new DataTransfer();
    data.items.add(new File([blob], "x.png", { type: "image/png" }));
    document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
    done();
  }));
}
"""


@contextlib.contextmanager
def launched(kind, *flags):
    """A browser with flags; `kind` is that of a driver, or of a browser that is open."""
    found = kind.launch(executable_path=shutil.which("chromium"), args=[*QUIET, *flags])
    yield found
    found.close()


@contextlib.contextmanager
def chromium(*flags):
    """A browser with a driver of its own, of which there can be one at a time."""
    with sync_api.sync_playwright() as driver, launched(driver.chromium, *flags) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@contextlib.contextmanager
def opened(browser, home, size=DESK, **how):
    """A page; errors in it and requests to other places are errors."""
    context = browser.new_context(viewport=size, **how)
    page = context.new_page()
    page.set_default_timeout(30_000)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda one: wrong.append(one.url))
    page.goto(home)
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert not [one for one in wrong if not one.startswith((home, "blob:", "data:"))]
    context.close()
