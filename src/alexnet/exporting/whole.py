"""A network with its preprocessing as one torch module, uint8 images of any size in, probabilities
out, in operations that `torch.export` follows. The twin of `onnx_graph`.

Shapes: N images, H W their size, S image size, C crop, K classes.
"""

import copy

import torch
from torch import Tensor, nn

from alexnet.data import augment
from alexnet.network.description import Preprocessing
from alexnet.network.model import AlexNet, LocalResponseNorm

MOST = 2**14  # px of a side that the exported program takes


class Whole(nn.Module):
    """`forward`: (N, H, W, 3) uint8 RGB, N images of equal but any size, to (N, K) float32."""

    def __init__(self, model: AlexNet, how: Preprocessing) -> None:
        super().__init__()
        self.how = how
        self.windows = augment.view_windows(how.image_size, how.border, how.crop, how.views)
        network = copy.deepcopy(model)
        for place, layer in enumerate(network.features):
            if isinstance(layer, LocalResponseNorm):  # which is made to be fast, not to be exported
                plain = nn.LocalResponseNorm(5, 1e-4, 0.75, float(layer.k[0]))
                network.features[place] = plain
        self.features, self.avgpool = network.features, network.avgpool
        self.classifier = network.classifier
        self.register_buffer("scale", torch.tensor([1 / (255 * s) for s in how.std]))
        shift = [-m / s for m, s in zip(how.mean, how.std, strict=True)]
        self.register_buffer("shift", torch.tensor(shift))

    def forward(self, images: Tensor) -> Tensor:
        x = augment.black_border(self.square(images), self.how.border)
        scale, shift = self.get_buffer("scale"), self.get_buffer("shift")
        x = x * scale[:, None, None] + shift[:, None, None]
        crop, found = self.how.crop, []
        for top, left, mirrored in self.windows:
            window = x[..., top : top + crop, left : left + crop]
            window = window.flip(-1) if mirrored else window
            features = self.avgpool(self.features(window))
            found.append(self.classifier(torch.flatten(features, 1)).softmax(-1))
        return torch.stack(found).mean(0)

    def square(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) float32, whole numbers from 0 to 255: as `onnx_graph.square`."""
        size, (height, width) = self.how.image_size, images.shape[1:3]
        places = [torch.arange(length, dtype=torch.float64) for length in (height, width)]
        tall, wide = (one[-1] + 1 for one in places)
        shorter = torch.minimum(tall, wide)
        down = resampling(places[0], tall, shorter, size)  # (S, H)
        across = [one.T for one in resampling(places[1], wide, shorter, size)]  # (W, S)
        x = images.permute(0, 3, 1, 2).float()
        x_down = rounded([one @ x for one in down])
        x_across = rounded([x @ one for one in across])
        return torch.where(
            (tall + size > 2 * wide) & (shorter > size),
            rounded([x_down @ one for one in across]),
            rounded([one @ x_across for one in down]),
        )


def rounded(products: list[Tensor]) -> Tensor:
    """As `onnx_graph.rounded`."""
    return ((products[0] + (products[1] / 2**8).floor() + 2**13) / 2**14).floor()


def resampling(places: Tensor, length: Tensor, shorter: Tensor, size: int) -> list[Tensor]:
    """Two matrices (S, L) float32, of the places 0 to L - 1: as `onnx_graph.resampling`."""
    shrinks, margin = shorter > size, (length - shorter) / 2
    left = torch.where(shrinks, margin, margin.floor())
    scale = shorter / size
    centres = left + (torch.arange(size, dtype=torch.float64)[:, None] + 0.5) * scale
    distance = (places + 0.5 - centres).abs() / scale.clamp(min=1)
    first = torch.where(shrinks, torch.zeros_like(left), left)
    end = torch.where(shrinks, length, left + shorter)
    inside = (places + 0.5 > first) & (places + 0.5 < end)
    weights = (1 - distance).clamp(min=0) * inside
    weights = weights / weights.sum(1, keepdim=True)
    unit = torch.where(shrinks, 1.0, 256.0).double()
    bits = (weights * (2**22 / unit) + 0.5).floor() * unit
    high = (bits / 2**8).floor()
    return [high.float(), (bits - high * 2**8).float()]


def exported_program(model: AlexNet, how: Preprocessing) -> torch.export.ExportedProgram:
    """The program of `Whole` for any number of images of any equal size up to 16,384 px."""
    side = how.image_size
    example = torch.zeros(2, side + 3, side + 5, 3, dtype=torch.uint8)
    dynamic = {
        0: torch.export.Dim("N", min=1, max=2**16),
        1: torch.export.Dim("H", min=2, max=MOST),
        2: torch.export.Dim("W", min=2, max=MOST),
    }
    whole = Whole(model, how).eval()
    return torch.export.export(whole, (example,), dynamic_shapes=(dynamic,), strict=False)
