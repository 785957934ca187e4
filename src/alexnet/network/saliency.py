"""What a network looks at: Grad-CAM, occlusion, first-layer filters, the images that excite a unit,
nearest neighbours among its features.

Shapes: B batch, N examples, K classes, C channels of the last convolution, D features. Images are
as the network sees them: (B, 3, H, W) float32, normalised.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet.network.description import Preprocessing
from alexnet.network.inference import evaluating
from alexnet.network.model import AlexNet, Whitening
from alexnet.scoring.metrics import Floats, Labels

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh)
POOLS = (nn.MaxPool2d, nn.AvgPool2d)
OCCLUSION_BATCH = 64
CHUNK = 4096  # examples that are compared at once


def parts(model: AlexNet) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
    """A network in three, made of its own layers: images to the output of the last convolution;
    what normalises and activates that; and from there to the logits. The second has the pooling in
    it where the network pools first."""
    layers = list(model.features)
    conv = max(place for place, one in enumerate(layers) if isinstance(one, nn.Conv2d))
    end = next(
        place for place in range(conv, len(layers)) if isinstance(layers[place], ACTIVATIONS)
    )
    rest = [*layers[end + 1 :], model.avgpool, nn.Flatten(), *model.classifier]
    cut = nn.Sequential(*layers[: conv + 1]), nn.Sequential(*layers[conv + 1 : end + 1])
    return *cut, nn.Sequential(*rest)


def without_pooling(layers: nn.Sequential) -> nn.Sequential:
    """The layers that are no pooling."""
    return nn.Sequential(*[layer for layer in layers if not isinstance(layer, POOLS)])


def grad_cam(model: AlexNet, x: Tensor, classes: Tensor | None = None) -> Tensor:
    """Where a network sees a class: Grad-CAM (Selvaraju et al., 2017) on the activated output of
    the last convolution, before it is pooled. (B, h, w) from 0 to 1, each map's maximum being 1; 0
    everywhere where nothing speaks for the class.

    A network that pools before its activation has no such output. There the maps are activated
    unpooled, and their weights are the gradients at the pooled ones, summed: the same thing, since
    max pooling commutes with the activation (as long as batch normalisation's gamma is positive)
    and hands every gradient to one place.

    Args:
        model: in whatever mode; evaluation mode is used.
        x: (B, 3, H, W).
        classes: (B,) labels; None for the most probable class of each image.
    """
    before, activate, after = parts(model)
    with evaluating(model), torch.enable_grad():
        with torch.no_grad():
            out = before(x)
            maps = without_pooling(activate)(out)  # (B, C, h, w)
            inner = activate(out)
        inner.requires_grad_()  # what is frozen below does not matter: this is where gradients end
        logits = after(inner)
        chosen = logits.argmax(1) if classes is None else classes.to(x.device)
        [gradient] = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), inner)
    weights = gradient.mean((2, 3), keepdim=True)
    cam = (weights * maps).sum(1).relu()
    highest = cam.amax((1, 2), keepdim=True)
    return torch.where(highest > 0, cam / highest, 0.0)


@torch.no_grad()
def occlusion(model: nn.Module, x: Tensor, label: int, patch: int, stride: int) -> Tensor:
    """How much the probability of a class drops while a square of the image is hidden (Zeiler and
    Fergus, 2014): (h, w) float32 from -1 to 1, where cell (i, j) stands for the `stride` x `stride`
    pixels around the middle of its square; squares at the edge hang over it.

    Args:
        model: in whatever mode; evaluation mode is used.
        x: (3, H, W). What is hidden becomes 0: the mean of each channel, or black where the
            network has a mean image.
        label: the class.
        patch, stride: side of the square, and its steps, px.
    """
    height, width = x.shape[-2:]
    rows, columns = hidden(height, patch, stride), hidden(width, patch, stride)
    covered = rows.to(x.device)[:, None, :, None] & columns.to(x.device)[None, :, None, :]
    covered = covered.flatten(0, 1)[:, None]  # (h * w, 1, H, W)
    with evaluating(model):
        whole = model(x[None]).softmax(1)[0, label]
        p = [
            model(x.masked_fill(few, 0)).softmax(1)[:, label]
            for few in covered.split(OCCLUSION_BATCH)
        ]
    drop: Tensor = whole - torch.cat(p)
    return drop.view(len(rows), len(columns)).float()


def hidden(length: int, patch: int, stride: int) -> Tensor:
    """(n, length) bool: which pixels of a line each of its n places hides."""
    start = torch.arange(0, length, stride)[:, None] + (stride - patch) // 2
    place = torch.arange(length)
    return (start <= place) & (place < start + patch)


def first_layer_filters(model: AlexNet) -> NDArray[np.uint8]:
    """The filters of the first convolution, or of the whitening before it, as one image (H, W, 3)
    uint8 RGB: a grid with white lines between, small ones enlarged by a whole factor. Each is
    stretched so that its largest weight is black or white, and grey is zero."""
    first = next(one for one in model.features if isinstance(one, nn.Conv2d | Whitening))
    weight = first.weight.detach().float().cpu()
    largest = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    tiles = ((weight / largest + 1) * 127.5).round().byte().numpy().transpose(0, 2, 3, 1)
    factor = max(1, 22 // tiles.shape[1])
    tiles = tiles.repeat(factor, 1).repeat(factor, 2)
    tiles = np.pad(tiles, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    root = math.ceil(len(tiles) ** 0.5)  # of a number like 96 a full rectangle, 12 wide
    columns = next((n for n in range(root, 2 * root) if len(tiles) % n == 0), root)
    blank = np.full((-len(tiles) % columns, *tiles.shape[1:]), 255, np.uint8)
    grid = np.concatenate([tiles, blank])
    side = grid.shape[1]
    grid = grid.reshape(-1, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(-1, columns * side, 3)


def excitement(model: AlexNet) -> nn.Sequential:
    """Images (B, 3, H, W) to the highest value of each unit of the last convolution (B, C), after
    its activation and before it is pooled; made of the network's own layers."""
    before, activate, _ = parts(model)
    maps = nn.Sequential(*before, *without_pooling(activate))
    return nn.Sequential(maps, nn.AdaptiveMaxPool2d(1), nn.Flatten())


def exciting_images(maxima: Floats, units: int = 6, images: int = 6) -> dict[int, Labels]:
    """The units that vary most over images, and for each the rows of those that excite it most. A
    unit that rises and falls with one already chosen (a correlation of 0.7) is passed over.

    Args:
        maxima: (N, C) what `excitement` gives.
        units, images: how many; fewer where there are no more.
    """
    centred = maxima.astype(np.float64) - maxima.mean(0, dtype=np.float64)
    spread = np.sqrt((centred**2).sum(0))
    chosen: list[int] = []
    for unit in (-spread).argsort(kind="stable").tolist():
        alike = (
            np.abs(centred[:, chosen].T @ centred[:, unit]) > 0.7 * spread[chosen] * spread[unit]
        )
        if spread[unit] > 0 and not alike.any() and len(chosen) < units:
            chosen.append(unit)
    return {unit: (-maxima[:, unit]).argsort(kind="stable")[:images] for unit in chosen}


def nearest_neighbours(
    queries: NDArray[np.floating[Any]], gallery: NDArray[np.floating[Any]], k: int
) -> tuple[Floats, Labels]:
    """The nearest of N examples for each of Q: cosine distances (Q, k) float32 from 0 to 2, in
    rising order, and rows of the gallery (Q, k). k is N where that is smaller.

    Args:
        queries: (Q, D). gallery: (N, D), of any float type, memory-mapped or not; a few thousand
            rows are looked at together.
    """
    k = min(k, len(gallery))
    wanted = F.normalize(torch.from_numpy(np.asarray(queries, dtype=np.float32)), dim=1)
    best = torch.full((len(wanted), 0), 0.0)
    rows = torch.zeros((len(wanted), 0), dtype=torch.int64)
    for start in range(0, len(gallery), CHUNK):
        chunk = torch.from_numpy(np.asarray(gallery[start : start + CHUNK], dtype=np.float32))
        near = wanted @ F.normalize(chunk, dim=1).T
        places = torch.arange(start, start + len(chunk)).expand(len(wanted), -1)
        best, order = torch.cat([best, near], 1).topk(min(k, best.shape[1] + len(chunk)), dim=1)
        rows = torch.cat([rows, places], 1).gather(1, order)
    return (1 - best).clamp(0, 2).numpy(), rows.numpy()


def overlay(picture: NDArray[np.uint8], cam: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) uint8 with a map (h, w) from 0 to 1 laid over it, enlarged to its size:
    the higher, the lighter the colour and the more of it, from violet to yellow; none where it is
    0. Equal steps of the map look equal, to colour-blind eyes too (viridis)."""
    from matplotlib import colormaps  # half a second to import

    smooth = F.interpolate(torch.from_numpy(cam)[None, None], picture.shape[:2], mode="bilinear")
    heat = smooth[0, 0].numpy()[..., None]
    colours = colormaps["viridis"](heat[..., 0])[..., :3] * 255
    share = 0.65 * heat
    blended: NDArray[np.uint8] = (picture * (1 - share) + colours * share).round().astype(np.uint8)
    return blended


def pictures(x: Tensor, how: Preprocessing) -> NDArray[np.uint8]:
    """Normalised images (B, 3, H, W) as pixels again, (B, H, W, 3) uint8: what the network saw."""
    mean, std = (
        torch.tensor(one, device=x.device).view(1, -1, 1, 1) for one in (how.mean, how.std)
    )
    pixels = ((x * std + mean) * 255).round().clamp(0, 255).byte()
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
