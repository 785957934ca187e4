"""`alexnet webcam`: what a run says of each picture of a camera or a video, drawn onto it.

Pictures are (H, W, 3) uint8 RGB everywhere but at OpenCV's two doors, where they are BGR.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from alexnet.atomic import output_file, replacing
from alexnet.classification.predict import load
from alexnet.console import progress, say
from alexnet.data.images import Pixels
from alexnet.errors import DiskError, InputError
from alexnet.values import Count, checked_arguments

USUAL_RATE = 30.0  # frames a second, where a source does not know its own
INK, PAPER, BAR = (255, 255, 255), (8, 11, 16, 165), (125, 178, 255)


class Source:
    """A camera, a video file or a stream; iterating gives its pictures."""

    def __init__(self, source: str) -> None:
        """
        Raises:
            InputError: there is no such camera or file, or it is no video.
        """
        self.camera = source.isdecimal()
        path = Path(source).expanduser()
        if self.camera:
            self.video = cv2.VideoCapture(int(source))
            problem = f"there is no camera {source}, or another program uses it."
            hint = "Give a video file, or another number: --source 1"
        elif "://" in source:
            self.video = cv2.VideoCapture(source)
            problem, hint = f"the stream {source} cannot be opened.", "Check its address."
        elif not path.is_file():
            raise InputError(
                f"there is no file {source}.",
                "--source is the number of a camera, a video file, or an address.",
            )
        else:
            self.video = cv2.VideoCapture(str(path.absolute()))
            problem, hint = f"{source} is not a video that can be read.", "Convert it to .mp4."
        if not self.video.isOpened():
            raise InputError(problem, hint)
        rate = self.video.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 1 <= rate <= 240 else USUAL_RATE
        self.count = max(0, int(self.video.get(cv2.CAP_PROP_FRAME_COUNT)))  # 0: not known

    def __iter__(self) -> Iterator[Pixels]:
        try:
            while True:
                found, frame = self.video.read()
                if not found:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)  # type: ignore[misc]
        finally:
            self.video.release()


class Film:
    """Writes pictures to an .mp4 file; the size is that of the first."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self.writer: cv2.VideoWriter | None = None
        self.size = (0, 0)

    def add(self, picture: Pixels) -> None:
        """One more picture.

        Raises:
            DiskError: the file cannot be written.
        """
        if self.writer is None:
            self.size = (picture.shape[1], picture.shape[0])
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self.writer = cv2.VideoWriter(str(self.path), code, self.rate, self.size)
            if not self.writer.isOpened():
                raise DiskError(
                    f"no video of {self.size[0]}x{self.size[1]} px can be written.",
                    "Leave out --save.",
                )
        frame = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        if frame.shape[1::-1] != self.size:  # a stream may change its size
            frame = cv2.resize(frame, self.size, interpolation=cv2.INTER_AREA)
        self.writer.write(frame)

    def close(self) -> None:
        """Ends the file."""
        if self.writer:
            self.writer.release()

    def check(self, frames: int) -> None:
        """OpenCV does not say when it could not write, so the pictures in the ended file are
        counted.

        Raises:
            DiskError: some are missing.
        """
        self.close()
        written = int(cv2.VideoCapture(str(self.path)).get(cv2.CAP_PROP_FRAME_COUNT))
        if written != frames:
            raise DiskError(
                f"only {max(0, written):,} of {frames:,} frames could be written.",
                "Is the disk full?",
            )


class Window:
    """A window of Tk's, which Python brings along: OpenCV's own ends the program where there is no
    display."""

    def __init__(self, title: str) -> None:
        """
        Raises:
            InputError: there is no display.
        """
        try:
            import tkinter

            self.root = tkinter.Tk()
        except Exception as error:  # no Tk in this Python, or no display: TclError
            raise InputError(
                f"no window can be shown ({error}).",
                "Use --no-window, with --save OUT.mp4 to see what was drawn.",
            ) from error
        self.root.title(title)
        self.root.bind("<Escape>", self._close)
        self.root.protocol("WM_DELETE_WINDOW", self._close)
        self.label = tkinter.Label(self.root)
        self.label.pack()
        self.open = True

    def _close(self, _: Any = None) -> None:
        self.open = False

    def show(self, picture: Pixels) -> bool:
        """Shows a picture; False once the user wants no more (Esc)."""
        from PIL import ImageTk

        self.photo = ImageTk.PhotoImage(Image.fromarray(picture))  # Tk does not hold it
        self.label.configure(image=self.photo)
        self.root.update()
        return self.open

    def close(self) -> None:
        """Takes the window away."""
        self.root.destroy()


def labelled(picture: Pixels, best: list[tuple[str, float]]) -> Pixels:
    """A copy of a picture with class names, probabilities and a bar for each over its lower left
    corner, the most probable first."""
    image = Image.fromarray(picture).convert("RGBA")
    size = max(11, round(min(image.size) / 22))
    font = ImageFont.load_default(size)
    line, margin = round(size * 1.5), size // 2
    layer = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(layer)
    top = image.height - line * len(best) - margin
    width = min(image.width, size * 17)
    draw.rectangle((0, top - margin, width, image.height), PAPER)
    for place, (name, p) in enumerate(best):
        y = top + place * line
        share = f"{p:.0%}"
        room = width - 3 * margin - font.getlength("100%")
        while len(name) > 1 and font.getlength(name) > room:
            name = name.rstrip("…")[:-1] + "…"
        draw.text((margin, y), name, INK, font)
        draw.text((width - margin, y), share, INK, font, anchor="ra")
        bottom = y + line - max(2, size // 6)
        right = margin + max(0, round((width - 2 * margin) * p))
        draw.rectangle((margin, bottom, right, bottom + size // 8), BAR)
    return np.asarray(Image.alpha_composite(image, layer).convert("RGB"))


@checked_arguments
def webcam(
    run: str | Path,
    source: str = "0",
    *,
    save: str | Path = "",
    window: bool = True,
    top: Count = 3,
    device: str = "auto",
    seen: Callable[[int, list[tuple[str, float]]], None] | None = None,
) -> int:
    """Classifies every picture of a source until it ends, or until Esc or Ctrl-C; returns how many.

    Args:
        run: a run directory, or an exported file.
        source: the number of a camera, a video file, or the address of a stream.
        save: an .mp4 file to write, which must not be there yet.
        window: whether to show them.
        top: how many classes to draw.
        device: as the recipe's field.
        seen: is told of each picture: its number from 0, and its `top` classes.

    Raises:
        InputError: no such source, no display, `save` is there already, or nobody is shown or told
            anything. DiskError: `save` cannot
            be written.
    """
    if not (save or window or seen):
        raise InputError(
            "pictures would be classified, and neither shown nor saved.",
            "Leave out --no-window, or give --save OUT.mp4.",
        )
    out = output_file(save, ".mp4") if save else Path()
    if save and out.exists():
        raise InputError(f"{out} is there already.", "Give another name, or delete it first.")
    classifier = load(run, device=device)
    frames, begun = 0, time.monotonic()
    with contextlib.ExitStack() as stack:
        pictures = Source(source)
        aside = stack.enter_context(replacing(out)) if save else None
        film = Film(aside, pictures.rate) if aside else None
        shown = Window(f"alexnet: {source}") if window else None
        advance = (
            stack.enter_context(progress("classifying", pictures.count, lines=not window))
            if pictures.count
            else lambda _: None
        )
        if shown:
            stack.callback(shown.close)
        if film:
            stack.callback(film.close)  # before it gets its name
        with contextlib.suppress(KeyboardInterrupt):  # what is written so far is kept
            for number, picture in enumerate(pictures):
                p = classifier.predict_proba([picture])[0]
                order = np.argsort(-p, kind="stable")[:top]
                best = [(classifier.names[k], float(p[k])) for k in order]
                if seen:
                    seen(number, best)
                drawn = labelled(picture, best) if film or shown else picture
                if film:
                    film.add(drawn)
                frames += 1
                advance(1)
                if shown and not shown.show(drawn):
                    break
        if not frames:
            raise InputError(f"no picture came from {source}.", "Try another --source.")
        if film:
            film.check(frames)
    seconds = max(time.monotonic() - begun, 1e-9)
    say(f"{frames:,} frames, {frames / seconds:.1f} a second")
    return frames
