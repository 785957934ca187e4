"""Contact sheets: pages of small labelled pictures, to look at many predictions at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from PIL import Image, ImageDraw, ImageFont

from alexnet.atomic import output_folder, replacing
from alexnet.data.trees import mark_output

COLUMNS, ROWS = 8, 6
CELL, MARGIN, LINES = 128, 10, 2  # px of a picture and between two, lines of a caption
FONT_SIZE = 13
LINE = FONT_SIZE + 3
INK, PAPER, RIGHT, WRONG = "#222222", "#ffffff", "#1a7f37", "#c62828"


@dataclass(frozen=True)
class Labelled:
    """A picture with its caption."""

    image: Image.Image
    caption: str
    colour: str = INK


def judged(image: Image.Image, truth: str, answer: str, p: float) -> Labelled:
    """A picture with what it was taken for: in green where that is right, in red with what it is
    where it is wrong."""
    if answer == truth:
        return Labelled(image, f"{answer} {p:.0%}", RIGHT)
    return Labelled(image, f"{answer} {p:.0%}, is {truth}", WRONG)


class Sheets:
    """Writes pages sheet-001.jpg, sheet-002.jpg, ... of 48 pictures each into a folder, as pictures
    are added; only one page is held in memory. Use as a context; the last page comes at its end.

    Raises:
        InputError: the folder is a file, or is called like one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = output_folder(folder)
        self.pages: list[Path] = []
        self.page: list[Labelled] = []

    def add(self, picture: Labelled) -> None:
        """One more picture."""
        self.page.append(picture)
        if len(self.page) == COLUMNS * ROWS:
            self._write_page()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.page:
            self._write_page()

    def _write_page(self) -> None:
        path = self.folder / f"sheet-{len(self.pages) + 1:03}.jpg"
        mark_output(self.folder, "contact sheets of alexnet", path.name)
        sheet = draw_page(self.page)
        with replacing(path) as aside:
            sheet.save(aside, "JPEG", quality=88)
        self.pages.append(path)
        self.page = []


def draw_page(page: Sequence[Labelled]) -> Image.Image:
    """The pictures of a page, eight in a row, each with its caption below it."""
    font = ImageFont.load_default(FONT_SIZE)
    step_x, step_y = CELL + MARGIN, CELL + LINES * LINE + MARGIN
    rows = -(-len(page) // COLUMNS)
    columns = min(COLUMNS, len(page))
    size = (MARGIN + columns * step_x, MARGIN + rows * step_y)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, picture in enumerate(page):
        x = MARGIN + place % COLUMNS * step_x
        y = MARGIN + place // COLUMNS * step_y
        small = picture.image.resize((CELL, CELL), Image.Resampling.BICUBIC)
        sheet.paste(small, (x, y))
        for line, text in enumerate(wrapped(picture.caption, font)):
            draw.text((x, y + CELL + 2 + line * LINE), text, picture.colour, font)
    return sheet


def wrapped(caption: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> list[str]:
    """At most LINES lines that fit below a picture; what does not fit ends in an ellipsis."""
    lines, words = [""], caption.split()
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= CELL or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    cut = lines[:LINES]
    if len(lines) > LINES:
        cut[-1] += "…"
    return [_shortened(line, font) for line in cut]


def _shortened(line: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    while len(line) > 1 and font.getlength(line) > CELL:
        line = line.rstrip("…")[:-1] + "…"
    return line
