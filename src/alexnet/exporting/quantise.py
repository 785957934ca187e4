"""Weights in 8 bits: one scale for each output of a fully connected layer."""

import torch
from torch import Tensor, nn


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (K, D) as whole numbers from -127 to 127, int8 (K, D), and the scale of each row,
    float32 (K,): 127 is its largest weight. `steps * scale[:, None]` are the weights, rounded."""
    weight = weight.detach()
    scale = weight.abs().amax(1) / 127
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def round_weights(model: nn.Module) -> None:
    """Rounds the weights of the fully connected layers of a model, in place, to what 8 bits
    hold."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            steps, scale = quantised(layer.weight)
            with torch.no_grad():
                layer.weight.copy_(steps * scale[:, None])
