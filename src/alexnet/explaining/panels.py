"""One picture per image that says what a run sees in it: the image, Grad-CAM, occlusion, the most
probable classes, the nearest training images."""

import re
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from alexnet.atomic import output_folder, replacing
from alexnet.classification.explanation import Explanation, explain_image, open_gallery
from alexnet.classification.predict import image_files
from alexnet.classification.run_classifier import load_run
from alexnet.console import warn
from alexnet.data.images import Pixels
from alexnet.data.objects import as_list
from alexnet.data.trees import mark_output
from alexnet.errors import InputError
from alexnet.network.saliency import overlay
from alexnet.runtime import as_found
from alexnet.values import Count, Precision, Whole, checked_arguments

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

TEAL, RED, INK, PALE = "#1f6f8b", "#c8553d", "#222222", "#e4e7e8"
SIDE = 240  # px of a picture in a panel, at least


@checked_arguments
@as_found()
def explain_files(
    run: str | Path,
    images: Sequence[str | Path] | str | Path,
    out: str | Path = "explanations",
    *,
    top: Count = 5,
    class_name: str = "",
    neighbours: Whole = 5,
    device: str = "auto",
    precision: Precision = "auto",
) -> list[Path]:
    """Writes a picture for each image file, and returns their paths. Files that cannot be used are
    reported and counted. `alexnet.load(run).explain(images)` has the same in numbers.

    Args:
        run: a run directory.
        images: files and folders, as `predict.image_files`.
        out: the folder of the pictures.
        top: how many classes to show.
        class_name: the class to explain, instead of the most probable one of each image.
        neighbours: how many training images to show.
        device: as the recipe's field.
        precision: of the pass over the training images; the rest is float32.

    Raises:
        RunError: not a finished run. DataError: no such class, nothing at a path. InputError: none
            of the files can be used.
    """
    folder = output_folder(out)
    classifier = load_run(run, device=device, precision="fp32")
    trained, paths = classifier.trained, []
    label = trained.label(class_name) if class_name else None
    files = image_files([str(one) for one in as_list(images)])
    gallery = None
    for number, one in enumerate(classifier.predict_files(files), 1):
        if one.p is None or one.pixels is None:
            warn(f"not used: {one.reason}")
            continue
        if neighbours and gallery is None:  # not before there is something to explain
            gallery = open_gallery(trained, classifier.run, precision)
            neighbours = neighbours if gallery else 0
        explanation = explain_image(
            trained, one.file.name, one.p, one.pixels, label, gallery, neighbours
        )
        paths.append(folder / file_name(number, one.file))
        mark_output(folder, "alexnet explain", paths[-1].name)
        save_panel(paths[-1], explanation, trained.names, top)
    if len(paths) < len(files):
        warn(f"{len(files) - len(paths)} of {len(files):,} files could not be used")
    if not paths:
        raise InputError("none of the files could be used.", "The reasons are above.")
    return paths


def save_panel(path: Path, one: Explanation, names: list[str], top: int) -> None:
    """Writes an explanation as a .png file, with the `top` most probable classes."""
    with warnings.catch_warnings(), replacing(path) as aside:
        # a letter that the font lacks becomes a box
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        draw_panel(one, names, top).savefig(aside, format="png", dpi=100)


def draw_panel(one: Explanation, names: list[str], top: int) -> "Figure":
    """The figure of an explanation."""
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(12.8, 6.2 if one.neighbours else 3.7), layout="constrained")
    heights = [1.35, 1] if one.neighbours else [1]
    [upper, *lower] = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    upper.suptitle(shortened(one.title, 100), color=INK, fontsize=12, parse_math=False)
    image, cam, hidden, bars = upper.subplots(1, 4, width_ratios=[1, 1, 1, 1.15])
    large = enlarged(one.picture)
    name = shortened(names[one.label], 22)
    show(image, large, "what the network sees")
    show(cam, overlay(large, one.cam), f"Grad-CAM: {name}")
    drop = max(0.0, float(one.drop.max()))
    show(hidden, overlay_drop(large, one), f"occlusion: down {drop * 100:.0f} points at most")
    draw_bars(bars, one, names, top)
    for row in lower:
        draw_neighbours(row, one, names)
    return figure


def overlay_drop(large: Pixels, one: Explanation) -> Pixels:
    """The picture in grey; red where its class becomes less probable while that place is hidden,
    blue where it becomes more probable."""
    from matplotlib import colormaps

    strength = one.drop / max(float(np.abs(one.drop).max()), 0.05)  # pale if it hardly changes
    cell = one.stride * len(large) // len(one.picture)
    size = [cell * length for length in strength.shape]
    smooth = F.interpolate(torch.from_numpy(strength)[None, None], size, mode="bilinear")[0, 0]
    strength = smooth.numpy()[: len(large), : large.shape[1]]
    colours = colormaps["RdBu_r"](strength / 2 + 0.5)[..., :3] * 255
    share = 0.8 * np.abs(strength)[..., None]
    grey = large.mean(2, keepdims=True) * 0.6 + 90
    blended: Pixels = (grey * (1 - share) + colours * share).round().astype(np.uint8)
    return blended


def draw_bars(axes: "Axes", one: Explanation, names: list[str], top: int) -> None:
    """The most probable classes, the explained one among them in another colour."""
    order = (-one.p).argsort(kind="stable")[:top]
    for place, label in enumerate(order):
        colour = TEAL if label == one.label else "#9aa5a9"
        axes.barh(place, 1, 0.36, color=PALE)
        axes.barh(place, one.p[label], 0.36, color=colour)
        heading = partial(axes.text, y=place - 0.22, va="bottom", fontsize=9, color=INK)
        heading(x=0, s=shortened(names[label], 30), parse_math=False)
        heading(x=1, s=f"{one.p[label]:.1%}", ha="right")
    axes.set(xlim=(0, 1), ylim=(max(len(order), 4) - 0.6, -0.75))
    axes.axis("off")


def draw_neighbours(figure: "SubFigure", one: Explanation, names: list[str]) -> None:
    """The nearest training images, in a row; the names of other classes in another colour."""
    figure.suptitle("nearest training images, and their cosine distances", color=INK, fontsize=10)
    row = figure.subplots(1, max(5, len(one.neighbours)), squeeze=False)[0]
    for axes in row:
        axes.axis("off")
    for axes, near in zip(row, one.neighbours, strict=False):
        colour = TEAL if near.name == names[one.label] else RED
        caption = f"{shortened(near.name, 22)}  {near.distance:.2f}"
        show(axes, enlarged(near.pixels.transpose(1, 2, 0)), caption, colour)


def show(axes: "Axes", picture: Pixels, caption: str, colour: str = INK) -> None:
    """A picture (H, W, 3) without axes, below its caption."""
    axes.imshow(picture, interpolation="antialiased")
    axes.set_title(caption, fontsize=9, color=colour, parse_math=False)
    axes.axis("off")


def enlarged(picture: Pixels) -> Pixels:
    """A small picture (H, W, 3) enlarged by a whole factor, so that its pixels can be seen."""
    factor = max(1, -(-SIDE // max(picture.shape[:2])))
    return picture.repeat(factor, 0).repeat(factor, 1)


def shortened(text: str, longest: int) -> str:
    """A name on one line: no control characters, an ellipsis where it is cut."""
    text = re.sub(r"\s+", " ", "".join(one if one.isprintable() else " " for one in text)).strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"


def file_name(number: int, path: Path) -> str:
    """The name of the picture of an image: numbered, since two folders may hold images of one name,
    and plain, whatever that name is."""
    stem = re.sub(r"[^\w.-]+", "_", path.stem, flags=re.ASCII).strip("._")[:60]
    return f"{number:03}-{stem or 'image'}.png"
