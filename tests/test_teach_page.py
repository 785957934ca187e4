"""The page of `alexnet teach` in a real browser, from nothing to a live answer of the camera."""

import contextlib
import signal

import numpy as np
import pytest
from browsers import DESK, PASTE, PHONE, browser, expect, launched, needs_browser, opened
from long.teach import teaching
from makers import class_folders, encoded, noise
from servers import until

from alexnet.data.images import open_image

pytestmark = needs_browser
__all__ = ["browser"]
GRANTED = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
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


def test_three_classes_are_taught_by_the_camera(browser, tmp_path):
    camera = f"--use-file-for-fake-video-capture={film(tmp_path / 'film.y4m')}"
    with (
        teaching(tmp_path / "things") as (process, home),
        launched(browser.browser_type, *GRANTED, camera) as seeing,
        opened(seeing, home) as page,
    ):
        for name in SHADES:
            add_class(page, name)
        page.get_by_role("button", name="Camera").click()
        for name, shade in SHADES.items():
            see(page, shade, comes=False)  # a whole piece of the film is to come
            see(page, shade)
            hold(page, name, tmp_path / "things")
        page.locator("#bars li").nth(2).wait_for()
        expect(page.locator("#accuracy")).to_contain_text("of 10 new pictures", ignore_case=True)
        for name, shade in SHADES.items():
            see(page, shade)
            page.locator("#answer", has_text=name).wait_for()
        process.send_signal(signal.SIGKILL)
    names = [path for path in (tmp_path / "things").rglob("*.jpg") if path.name[0] != "."]
    assert len(names) >= 60
    for path in names:
        open_image(path.read_bytes()).load()


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (DESK, "light")])
def test_pictures_are_added_moved_and_brought_back(size, scheme, browser, tmp_path):
    folder = tmp_path / "things"
    files = [
        {"name": f"{n}.png", "mimeType": "image/png", "buffer": encoded(noise(n, (40, 40)))}
        for n in range(3)
    ]

    def held(name):
        return sorted(path.name for path in (folder / name).glob("*"))

    with teaching(folder) as (_, home), opened(browser, home, size, color_scheme=scheme) as page:
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
        expect(name).to_have_value("dog")
        page.get_by_label("Delete class cat").click()
        page.locator('.card[data-name="cat"]').wait_for(state="detached")
        page.get_by_role("button", name="Undo").click()
        assert until(lambda: len(held("cat")) == 2)


def drop(page, place, *paths):
    """Drops files and folders of the disk on an element, as a hand does."""
    box = page.locator(place).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + min(box["height"] / 2, 60)
    hand = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(one) for one in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        hand.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})


def dragged(page, picture, class_, there):
    """Drags a picture onto a class until it is there: what has been learned meanwhile may move the
    cards below the pointer."""
    from playwright.sync_api import TimeoutError as NotSeen

    for _ in range(4):
        with contextlib.suppress(NotSeen):
            page.get_by_label(picture).drag_to(
                page.locator(f'.card[data-name="{class_}"] .head'), timeout=5000
            )
        with contextlib.suppress(NotSeen):
            return there.wait_for(timeout=5000)
    return there.wait_for()


def test_pictures_are_dropped_pasted_and_dragged(browser, tmp_path):
    folder = tmp_path / "things"
    class_folders(tmp_path / "mine", {"cat": 3, "dog/old": 2, "dog": 1}, (40, 40))

    def held(name):
        return sorted(path.name for path in (folder / name).glob("[!.]*"))

    with teaching(folder) as (_, home), opened(browser, home) as page:
        page.evaluate(PASTE, "red")  # no class has been clicked on
        page.locator("#trouble", has_text="Which class").wait_for()
        drop(page, "#new", tmp_path / "mine")  # its folders become classes
        for name in ("cat", "dog"):
            page.locator(f'.card[data-name="{name}"] .count', has_text="3 pictures").wait_for()
        assert held("cat") == ["0.png", "1.png", "2.png"]
        (tmp_path / "mine" / "no.png").write_bytes(b"no picture")
        drop(page, '.card[data-name="cat"]', tmp_path / "mine/dog/0.png", tmp_path / "mine/no.png")
        page.locator("#trouble", has_text="no.png").wait_for()
        assert held("cat") == ["0-2.png", "0.png", "1.png", "2.png"]
        drop(page, "header", tmp_path / "mine/dog/0.png")
        page.locator("#trouble", has_text="Pictures belong to a class").wait_for()
        page.locator('.card[data-name="dog"]').click(position={"x": 5, "y": 5})
        page.evaluate(PASTE, "red")
        page.locator('.card[data-name="dog"] .count', has_text="4 pictures").wait_for()
        assert "x.png" in held("dog")
        there = page.get_by_label("x.png, of cat: move or delete")
        dragged(page, "x.png, of dog: move or delete", "cat", there)
        assert "x.png" in held("cat") and "x.png" not in held("dog")


def test_what_was_suggested_is_sorted(browser, tmp_path):
    folder = class_folders(tmp_path / "things", {"cat": 3, "dog": 3}, (40, 40))
    class_folders(tmp_path, {"new": 3}, (40, 40))
    table = tmp_path / "suggestions.csv"
    table.write_text("image\n" + "".join(f"new/{number}.png\n" for number in range(3)))
    with teaching(folder, "--from", str(table)) as (_, home), opened(browser, home) as page:
        page.locator("#unsorted .count", has_text="3 pictures").wait_for()
        there = page.locator('.card[data-name="cat"] .count', has_text="4 pictures")
        dragged(page, "0.png, to sort: move or delete", "cat", there)
        page.get_by_label("1.png, to sort: move or delete").press("Enter")
        page.get_by_label("Move to").select_option("dog")
        page.get_by_role("button", name="Move", exact=True).click()
        page.locator('.card[data-name="dog"] .count', has_text="4 pictures").wait_for()
        page.get_by_label("2.png, to sort: move or delete").press("Delete")
        page.locator("#unsorted").wait_for(state="hidden")
        page.get_by_role("button", name="Undo").click()
        page.locator("#unsorted .count", has_text="1 picture").wait_for()
    assert len(list((folder / "cat").iterdir())) == 4 and (tmp_path / "new/0.png").exists()


def test_two_tabs_show_the_same(browser, tmp_path):
    class_folders(tmp_path / "things", {"cat": 2, "dog": 2}, (40, 40))
    file = {"name": "new.png", "mimeType": "image/png", "buffer": encoded(noise(9, (40, 40)))}
    with (
        teaching(tmp_path / "things") as (_, home),
        opened(browser, home) as page,
        opened(browser, home) as other,
    ):
        for one in (page, other):
            one.locator('.card[data-name="dog"]').wait_for()
        page.get_by_label("Add files to cat").set_input_files([file])
        other.get_by_label("new.png, of cat: move or delete").wait_for()
        other.get_by_label("new.png, of cat: move or delete").click()  # its menu is open when
        page.get_by_label("Delete class cat").click()  # the class goes
        other.locator('.card[data-name="cat"]').wait_for(state="detached")
        other.locator("#menu button[value=delete]").click()
        other.locator("#trouble", has_text="not there any more").wait_for()
        page.get_by_role("button", name="Undo").click()
        other.get_by_label("new.png, of cat: move or delete").wait_for()
    assert len(list((tmp_path / "things" / "cat").glob("*.png"))) == 3


def test_a_refused_camera_is_said(browser, tmp_path):
    with teaching(tmp_path / "things") as (_, home), opened(browser, home) as page:
        page.get_by_role("button", name="Camera").click()
        page.locator("#trouble", has_text="amera").wait_for()
