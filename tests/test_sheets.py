"""Contact sheets: pages that hold every picture, with captions that fit."""

import numpy as np
from makers import noise
from PIL import Image, ImageFont

from alexnet.reporting.sheets import (
    CELL,
    FONT_SIZE,
    LINES,
    Labelled,
    Sheets,
    draw_page,
    judged,
    wrapped,
)


def test_pages_are_filled_in_order(tmp_path):
    with Sheets(tmp_path / "sheets") as sheets:
        for number in range(50):
            sheets.add(Labelled(noise(number), f"class {number}"))
    assert [path.name for path in sheets.pages] == ["sheet-001.jpg", "sheet-002.jpg"]
    sizes = []
    for path in sheets.pages:
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes == [(10 + 8 * 138, 10 + 6 * 170), (10 + 2 * 138, 10 + 170)]


def test_no_picture_is_no_page(tmp_path):
    with Sheets(tmp_path / "sheets") as sheets:
        pass
    assert sheets.pages == []
    assert not (tmp_path / "sheets").exists()


def test_a_caption_is_written_below_its_picture_in_its_colour():
    red = Image.new("RGB", (4, 4), "red")
    page = np.asarray(draw_page([Labelled(red, "cat 97%", "#008000")])).astype(int)
    assert (page[10 : 10 + CELL, 10 : 10 + CELL] == (255, 0, 0)).all()
    caption = page[10 + CELL :]
    green = (caption[..., 1] > caption[..., 0] + 60) & (caption[..., 1] > caption[..., 2] + 60)
    assert green.sum() > 20
    assert page[10 : 10 + CELL, 10 + CELL :].min() == 255  # nothing beside the picture


def test_what_is_right_is_green_and_what_is_wrong_red():
    right, wrong = (judged(noise(0), "cat", answer, 0.97) for answer in ("cat", "dog"))
    assert (right.caption, right.colour) == ("cat 97%", "#1a7f37")
    assert (wrong.caption, wrong.colour) == ("dog 97%, is cat", "#c62828")


def test_captions_fit():
    font = ImageFont.load_default(FONT_SIZE)
    for caption in ("cat", "Egyptian cat 12%", "a " * 90, "x" * 200, "", "long " + "y" * 90):
        lines = wrapped(caption, font)
        assert len(lines) <= LINES
        assert all(font.getlength(line) <= CELL for line in lines)
    assert wrapped("a " * 90, font)[-1].endswith("\N{HORIZONTAL ELLIPSIS}")
