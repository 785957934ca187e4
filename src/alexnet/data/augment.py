"""Batched image transforms: `f(x, generator) -> x`, pure, on whatever device `x` is, with no loop
over images.

x is (B, 3, H, W) uint8, pixels 0 to 255, until `normalise` makes it floating point. Random numbers
are always drawn on the CPU from the given generator, so that a batch does not depend on the device.
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from alexnet.errors import RecipeError

Transform = Callable[[Tensor, Generator], Tensor]

GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R 601 luma, as torchvision and Pillow


def uniform(
    shape: Sequence[int], low: float, high: float, generator: Generator, like: Tensor, rows: int = 0
) -> Tensor:
    """Numbers from `low` to `high` (float32), drawn on the CPU, on the device of `like`, along
    whose first dimension the dimension `rows` of the shape goes."""

    def draw(whole: Sequence[int]) -> Tensor:
        return torch.empty(*whole).uniform_(low, high, generator=generator)

    return _for_rows(draw, shape, generator, rows).to(like.device)


def integers(high: int, shape: Sequence[int], generator: Generator, like: Tensor) -> Tensor:
    """Whole numbers from 0 to `high` - 1, drawn on the CPU, on the device of `like`."""

    def draw(whole: Sequence[int]) -> Tensor:
        return torch.randint(high, tuple(whole), generator=generator)

    return _for_rows(draw, shape, generator).to(like.device)


def _for_rows(
    draw: Callable[[Sequence[int]], Tensor],
    shape: Sequence[int],
    generator: Generator,
    place: int = 0,
) -> Tensor:
    """What is drawn for a batch; for the rows of a shard, which are dimension `place` of the shape,
    what is drawn for them in the whole batch."""
    rows = getattr(generator, "rows", None)  # of a ShardGenerator
    if rows is None:
        return draw(shape)
    whole = [*shape[:place], rows.of, *shape[place + 1 :]]
    return draw(whole).narrow(place, rows.start, rows.stop - rows.start)


def resize(x: Tensor, size: int) -> Tensor:
    """Square images of `size` px: bilinear, antialiased when shrinking (torchvision's `resize`).
    uint8 stays uint8."""
    if x.shape[-2:] == (size, size):
        return x
    if x.dtype == torch.uint8 and x.device.type != "cpu":  # only the CPU interpolates bytes
        return (
            F.interpolate(x.float(), (size, size), mode="bilinear", antialias=True)
            .round()
            .clamp(0, 255)
            .byte()
        )
    # bytes in the order of pixels are interpolated three times as fast, to the same values
    x = x.contiguous(memory_format=torch.channels_last)
    return F.interpolate(x, (size, size), mode="bilinear", antialias=True)


def black_border(x: Tensor, border: int) -> Tensor:
    """A border of `border` black px."""
    return F.pad(x, (border, border, border, border)) if border else x


def pad(x: Tensor, padding: int) -> Tensor:
    """A mirrored border of `padding` px, without repeating the edge pixel."""
    if not padding:
        return x
    if x.is_cpu:
        return F.pad(x, (padding,) * 4, mode="reflect")
    # reflection of bytes is not implemented elsewhere; an index is exact on every device
    rows = _mirrored(x.shape[-2], padding, x)
    columns = _mirrored(x.shape[-1], padding, x)
    return x.index_select(-2, rows).index_select(-1, columns)


def _mirrored(length: int, padding: int, like: Tensor) -> Tensor:
    place = torch.arange(-padding, length + padding, device=like.device).abs()
    return torch.where(place >= length, 2 * (length - 1) - place, place)


def random_crop(x: Tensor, size: int, generator: Generator) -> Tensor:
    """Another `size` x `size` px window of each image."""
    batch, _, height, width = x.shape
    if (height, width) == (size, size):
        return x
    top = integers(height - size + 1, (batch, 1), generator, x)
    left = integers(width - size + 1, (batch, 1), generator, x)
    windows = x.unfold(2, size, 1).unfold(3, size, 1)  # (B, C, tops, lefts, size, size), no copy
    return windows[torch.arange(batch, device=x.device), :, top[:, 0], left[:, 0]]


def random_resized_crop(x: Tensor, size: int, area: float, generator: Generator) -> Tensor:
    """A window of `area` to all of each image, with sides in a ratio of 3/4 to 4/3, scaled to
    `size` x `size` px (bilinear)."""
    batch, channels = x.shape[:2]
    share = uniform((batch,), area, 1.0, generator, x)
    ratio = torch.exp(
        uniform((batch,), -0.2876820724, 0.2876820724, generator, x)
    )  # log 3/4 .. log 4/3
    tall = torch.sqrt(share / ratio).clamp(max=1.0)
    wide = torch.sqrt(share * ratio).clamp(max=1.0)
    # grid_sample's coordinates run from -1 to 1 over the image; the window's centre must leave it
    # inside
    centre_y = uniform((batch,), -1.0, 1.0, generator, x) * (1 - tall)
    centre_x = uniform((batch,), -1.0, 1.0, generator, x) * (1 - wide)
    nothing = torch.zeros_like(tall)
    affine = torch.stack(
        [torch.stack([wide, nothing, centre_x], 1), torch.stack([nothing, tall, centre_y], 1)], 1
    )  # (B, 2, 3)
    grid = F.affine_grid(affine, [batch, channels, size, size], align_corners=False)
    sampled = F.grid_sample(
        x.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return sampled.round().clamp(0, 255).to(x.dtype)


def random_flip(x: Tensor, generator: Generator) -> Tensor:
    """Mirrors each image left to right with probability 1/2."""
    mirrored = integers(2, (len(x), 1, 1, 1), generator, x).bool()
    return torch.where(mirrored, x.flip(-1), x)


def adjust_colours(x: Tensor, strength: float, generator: Generator) -> Tensor:
    """Changes brightness, contrast and saturation, in this order, each by its own factor from 1 -
    strength to 1 + strength, as torchvision's `adjust_brightness`, `adjust_contrast`,
    `adjust_saturation`."""
    factors = uniform((3, len(x), 1, 1, 1), 1 - strength, 1 + strength, generator, x, rows=1)
    y = (x.float() * factors[0]).clamp(0, 255)
    contrast_grey = _grey(y).mean((1, 2, 3), keepdim=True)
    y = (contrast_grey + (y - contrast_grey) * factors[1]).clamp(0, 255)
    saturation_grey = _grey(y)
    y = (saturation_grey + (y - saturation_grey) * factors[2]).clamp(0, 255)
    return y.round().to(x.dtype)


def _grey(x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 1, H, W)
    weights = torch.tensor(GREY_WEIGHTS, device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def erase_square(x: Tensor, share: float, fill: Sequence[float], generator: Generator) -> Tensor:
    """Sets a square of `share` of the side to `fill` (RGB, 0 to 1) at a random place of each image,
    wholly inside it."""
    batch, _, height, width = x.shape
    side = max(1, round(share * min(height, width)))
    top = integers(height - side + 1, (batch, 1), generator, x)
    left = integers(width - side + 1, (batch, 1), generator, x)
    row, column = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    in_rows = (row >= top) & (row < top + side)  # (B, H)
    in_columns = (column >= left) & (column < left + side)  # (B, W)
    colour = (torch.tensor(fill, device=x.device) * 255).round().to(x.dtype).view(1, -1, 1, 1)
    return torch.where(in_rows[:, None, :, None] & in_columns[:, None, None, :], colour, x)


def mix(mixup: float, cutmix: float, x: Tensor, generator: Generator) -> tuple[Tensor, float]:
    """A batch of images (B, C, H, W), each of which has some of the one before it, blended or as a
    rectangle at the same place in all; and the share that is its own. `mixup` and `cutmix` are the
    recipe's, one at least above 0. The shards of a batch are mixed alike, each in itself."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    chance = random.Random(seed)  # noqa: S311  torch's own beta distribution takes no generator
    before, (height, width) = x.roll(1, 0), x.shape[2:]
    if not cutmix or (mixup and chance.random() < 0.5):
        own = chance.betavariate(mixup, mixup)
        return torch.lerp(before, x, own), own
    side = math.sqrt(1 - chance.betavariate(cutmix, cutmix))
    rows, columns = _around(chance, height, side), _around(chance, width, side)
    x = x.clone()
    x[:, :, rows, columns] = before[:, :, rows, columns]
    cut = (rows.stop - rows.start) * (columns.stop - columns.start)
    return x, 1 - cut / (height * width)


def _around(chance: random.Random, length: int, share: float) -> slice:
    """A share of the length around a place of chance, as far as that is within it."""
    middle, half = chance.randrange(length), share * length / 2
    return slice(max(0, round(middle - half)), min(length, round(middle + half)))


def normalise(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x / 255 - mean) / std per channel, float32, channels last in memory."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=x.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=x.device)
    # reordered while they are bytes, then in place: large new arrays cost more than the arithmetic
    y = x.contiguous(memory_format=torch.channels_last).float()
    rows = y.permute(0, 2, 3, 1).flatten(2)  # (B, H, W * 3): whole rows, not 3 values at a time
    width = x.shape[-1]
    torch.addcmul(shift.repeat(width), rows, scale.repeat(width), out=rows)
    return y


def add_lighting(
    x: Tensor, sigma: float, axes: Sequence[float], std: Sequence[float], generator: Generator
) -> Tensor:
    """The 2012 paper's colour noise: adds the principal axes of colour, each times its own N(0,
    sigma), to all pixels of an image; one draw per image.

    Args:
        x: (B, 3, H, W), as `normalise` leaves it: nothing is lost in rounding.
        sigma: the paper has 0.1.
        axes: nine numbers, a row for each of red, green and blue, pixels from 0 to 1; a column for
            each axis (`pixels.colour_axes`).
        std: as for `normalise`.
    """
    matrix = torch.tensor(axes, device=x.device).view(3, 3)
    drawn = _for_rows(partial(torch.randn, generator=generator), (len(x), 3), generator)
    alpha = drawn.to(x.device) * sigma
    shift = alpha @ matrix.T / torch.tensor(std, device=x.device)  # (B, 3)
    return x + shift[:, :, None, None]


def training_transform(
    *,
    image_size: int,
    border: int,
    crop: int,
    crop_padding: int,
    crop_area: float,
    flip: bool,
    jitter: float,
    lighting: float,
    axes: Sequence[float],
    erase: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> Transform:
    """What happens to a batch of stored images (uint8) on its way into training. Arguments as the
    recipe's fields; `axes` as for `add_lighting`."""

    def transform(
        x: Tensor, generator: Generator
    ) -> Tensor:  # (B, 3, S, S) uint8 -> (B, 3, crop, crop) float32
        x = pad(black_border(resize(x, image_size), border), crop_padding)
        x = (
            random_resized_crop(x, crop, crop_area, generator)
            if crop_area < 1
            else random_crop(x, crop, generator)
        )
        if flip:
            x = random_flip(x, generator)
        if jitter:
            x = adjust_colours(x, jitter, generator)
        if erase:
            x = erase_square(x, erase, mean, generator)
        x = normalise(x, mean, std)
        return add_lighting(x, lighting, axes, std, generator) if lighting else x

    return transform


def evaluation_views(
    *,
    image_size: int,
    border: int,
    crop: int,
    mean: Sequence[float],
    std: Sequence[float],
    views: int,
) -> list[Transform]:
    """What happens to stored images (uint8) before validation, test and prediction, where nothing
    is random: the centre; as second view its mirror image; as third to tenth the four corners, each
    with its mirror image (Krizhevsky et al., 2012, section 4.1).

    Raises:
        RecipeError: ten views of images that are no larger than their crop.
    """

    def window(top: int, left: int, mirrored: bool) -> Transform:
        def view(
            x: Tensor, generator: Generator
        ) -> Tensor:  # (B, 3, S, S) uint8 -> (B, 3, crop, crop) float32
            x = black_border(resize(x, image_size), border)
            x = normalise(x[..., top : top + crop, left : left + crop], mean, std)
            return x.flip(-1) if mirrored else x

        return view

    return [window(*one) for one in view_windows(image_size, border, crop, views)]


def view_windows(
    image_size: int, border: int, crop: int, views: int
) -> list[tuple[int, int, bool]]:
    """Where the windows of `evaluation_views` begin in an image with its border, rows and columns,
    and which are mirrored afterwards; errors as there."""
    side = image_size + 2 * border
    if views == 10 and crop == side:
        raise RecipeError(
            f"ten views are windows at the corners and the centre, but the network sees all of an "
            f"image: both are {crop} px.",
            "Use --views 2; or train with a --crop below --image-size.",
        )
    middle, last = (side - crop) // 2, side - crop
    # where a margin is odd, the window of the mirrored image is a pixel off the mirrored window
    beside = middle if views == 10 else last - middle
    windows = [(middle, middle, False), (middle, beside, True)]
    if views == 10:
        for corner in ((0, 0), (0, last), (last, 0), (last, last)):
            windows += [(*corner, False), (*corner, True)]
    return windows[:views]
