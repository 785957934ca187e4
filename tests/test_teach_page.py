"""The page of `alexnet teach` in a real browser, from nothing to a live answer of the camera."""

import contextlib
import shutil
import signal
import time

import numpy as np
import pytest
from long.teach import teaching
from makers import encoded, noise
from servers import until

from alexnet.data.images import open_image

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium"),
]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
GRANTED = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
SHADES = {"dark": 40, "middle": 120, "light": 210}  # of what is before the camera
SEEN = """() => {
  const canvas = document.createElement("canvas"), video = document.getElementById("video");
  canvas.width = canvas.height = 1;
  canvas.getContext("2d").drawImage(video, 0, 0, 1, 1);
  return canvas.getContext("2d").getImageData(0, 0, 1, 1).data[0];
}"""


def film(path, seconds=5, rate=10, side=64):
    """A video in which the camera sees one thing after the other, each with noise of its own."""
    draw = np.random.default_rng(0)
    with open(path, "wb") as file:
        file.write(f"YUV4MPEG2 W{side} H{side} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for place, shade in enumerate(SHADES.values()):
            ground = shade + 25 * np.sin(np.arange(side) / (2 + 4 * place))  # stripes, too
            for _ in range(seconds * rate):
                light = ground + draw.normal(0, 6, (side, side))
                file.write(b"FRAME\n" + light.clip(0, 255).astype(np.uint8).tobytes())
                file.write(bytes([128]) * (side * side // 2))
    return path


@contextlib.contextmanager
def opened(home, *flags, size=DESK, **how):
    """The page; errors in it and requests to other places are errors."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*QUIET, *flags]
        )
        page = browser.new_context(viewport=size, **how).new_page()
        page.set_default_timeout(30_000)
        wrong = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda one: wrong.append(one.url))
        page.goto(home)
        yield page
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert not [one for one in wrong if not one.startswith((home, "blob:", "data:"))]
        browser.close()


def add_class(page, name):
    page.get_by_label("Name of a new class").fill(name)
    page.keyboard.press("Enter")
    page.locator(f'.card[data-name="{name}"]').wait_for()


def see(page, shade, comes=True):
    """Waits until that shade is before the camera, or is not."""
    assert until(lambda: (abs(page.evaluate(SEEN) - shade) < 30) == comes, 20)


def hold(page, name, folder):
    """Takes 20 pictures of a class, by keyboard alone."""
    page.locator(f'.card[data-name="{name}"] .hold').focus()
    page.keyboard.down(" ")
    assert until(lambda: len(list((folder / name).glob("*.jpg"))) >= 20, 30)
    page.keyboard.up(" ")


def test_three_classes_are_taught_by_the_camera(tmp_path):
    camera = f"--use-file-for-fake-video-capture={film(tmp_path / 'film.y4m')}"
    with teaching(tmp_path / "things") as (process, home), opened(home, *GRANTED, camera) as page:
        for name in SHADES:
            add_class(page, name)
        page.get_by_role("button", name="Camera").click()
        for name, shade in SHADES.items():
            see(page, shade, comes=False)  # a whole piece of the film is to come
            see(page, shade)
            hold(page, name, tmp_path / "things")
        begun = time.monotonic()
        page.locator("#bars li").nth(2).wait_for()
        seconds = time.monotonic() - begun
        print(f"from the last frame to the first answer: {seconds:.1f} s")
        assert seconds < 20  # 5 asked, on a machine of one's own
        assert "of 10 new pictures" in page.locator("#accuracy").inner_text().lower()
        for name, shade in SHADES.items():
            see(page, shade)
            page.locator("#answer", has_text=name).wait_for()
        process.send_signal(signal.SIGKILL)
    names = [path for path in (tmp_path / "things").rglob("*.jpg") if path.name[0] != "."]
    assert len(names) >= 60
    for path in names:
        open_image(path.read_bytes()).load()


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESK, "light")])
def test_pictures_are_added_moved_and_brought_back(size, scheme, tmp_path):
    folder = tmp_path / "things"
    files = [
        {"name": f"{n}.png", "mimeType": "image/png", "buffer": encoded(noise(n, (40, 40)))}
        for n in range(3)
    ]

    def held(name):
        return sorted(path.name for path in (folder / name).glob("*"))

    with teaching(folder) as (_, home), opened(home, size=size, color_scheme=scheme) as page:
        add_class(page, "cat")
        add_class(page, "dog")
        no_picture = {"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"}
        page.get_by_label("Add files to cat").set_input_files([*files, no_picture])
        page.locator("#trouble", has_text="no.png").wait_for()
        assert held("cat") == ["0.png", "1.png", "2.png"]
        page.get_by_label("0.png, of cat: move or delete").focus()
        page.keyboard.press("Delete")
        page.get_by_role("button", name="Undo").wait_for()
        assert held("cat") == ["1.png", "2.png"]
        page.get_by_role("button", name="Undo").click()
        assert until(lambda: held("cat") == ["0.png", "1.png", "2.png"])
        page.get_by_label("2.png, of cat: move or delete").click()
        page.locator("#menu button[value=move]").click()
        page.get_by_label("2.png, of dog: move or delete").wait_for()
        assert held("dog") == ["2.png"]
        (folder / "dog" / "2.png").unlink()  # by another program
        page.get_by_label("2.png, of dog: move or delete").wait_for(state="detached")
        name = page.locator('.card[data-name="dog"] input[type=text]')
        name.fill("../cow")
        name.press("Enter")
        page.locator("#trouble", has_text="cannot be called").wait_for()
        assert name.input_value() == "dog"
        page.get_by_label("Delete class cat").click()
        page.locator('.card[data-name="cat"]').wait_for(state="detached")
        page.get_by_role("button", name="Undo").click()
        assert until(lambda: len(held("cat")) == 2)


def test_a_refused_camera_is_said(tmp_path):
    with teaching(tmp_path / "things") as (_, home), opened(home) as page:
        page.get_by_role("button", name="Camera").click()
        page.locator("#trouble", has_text="amera").wait_for()
