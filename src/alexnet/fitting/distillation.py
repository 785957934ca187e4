"""Learning from a teacher: a network that learns the classes and, beside them, what the last map of
a frozen network shows of the same pictures (Romero et al., "FitNets", 2015).

Shapes: B batch, C channels of the network's last map, T of the teacher's.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.data import augment
from alexnet.network.description import Preprocessing
from alexnet.network.frozen import FrozenPart
from alexnet.network.model import AdaptiveAverage, AlexNet

GRID = 2  # both maps are averaged to this side before they are compared
SHARE = 0.5  # of each batch that the teacher sees: a look costs it more than the student's step


class Teacher:
    """The last map of a frozen network, for pictures that were prepared for another one."""

    def __init__(
        self,
        network: AlexNet,
        made_for: Preprocessing,
        prepared: Preprocessing,
        size: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Args: prepared: how the pictures come; size: px, to which they are scaled first."""
        self.channels, self.size = network.architecture.convs[-1].channels, size
        pooled = nn.Sequential(network.features, AdaptiveAverage(GRID), nn.Flatten())
        self.frozen = FrozenPart(pooled, device, dtype)
        came, wanted = (
            [torch.tensor(one, device=device).view(1, 3, 1, 1) for one in (how.mean, how.std)]
            for how in (prepared, made_for)
        )
        self.scale, self.shift = came[1] / wanted[1], (came[0] - wanted[0]) / wanted[1]

    def __deepcopy__(self, memo: object) -> "Teacher":
        return self  # nothing of it ever changes

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, T, GRID, GRID) float32, each channel with mean 0 and
        deviation 1 over the batch."""
        x = augment.resize(torch.addcmul(self.shift, x, self.scale), self.size)
        maps = self.frozen(x.contiguous(memory_format=torch.channels_last)).float()
        return F.batch_norm(maps.view(len(x), -1, GRID, GRID), None, None, training=True)


class Student(nn.Module):
    """A network while it has a teacher: logits (B, K) in evaluation; while training beside them a
    term of the loss, the mean squared error of what is predicted of the teacher's map."""

    def __init__(self, network: AlexNet, teacher: Teacher, weight: float) -> None:
        super().__init__()
        self.network, self.teacher, self.weight = network, teacher, weight
        self.average = AdaptiveAverage(GRID)
        channels = network.architecture.convs[-1].channels
        self.prediction = nn.Conv2d(channels, teacher.channels, 1)
        for parameter in self.prediction.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if not self.training:
            logits: Tensor = self.network(x)
            return logits
        maps = self.network.features(x)
        seen = math.ceil(SHARE * len(x))
        predicted = self.prediction(self.average(maps[:seen]))
        apart = F.mse_loss(predicted.float(), self.teacher(x[:seen]))
        return self.network.classify(maps), self.weight * apart
