"""A recipe as it was asked -> what it comes to: weights, network, preprocessing, and a recipe in
which nothing is left open."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from alexnet import ranks
from alexnet.atomic import digest
from alexnet.data.datasets import open_data
from alexnet.data.sources import Data
from alexnet.data.store import Store
from alexnet.network.checkpoint import Network
from alexnet.network.description import ARCHITECTURES, Architecture, Preprocessing
from alexnet.network.weight_names import named_weights
from alexnet.network.weights import find_weights
from alexnet.recipes import Recipe, Resolved
from alexnet.runs.directory import RunDirectory
from alexnet.runs.network import network_of, preprocessing_of
from alexnet.runtime import choose_device, choose_precision


@dataclass(frozen=True)
class Resolution:
    """What a recipe comes to on this machine."""

    asked: Recipe
    recipe: Resolved
    weights: Network | None  # what it starts from
    architecture: Architecture
    preprocessing: Preprocessing
    device: torch.device
    dtype: torch.dtype
    why_dtype: str = field(compare=False)
    teacher: Network | None = None  # from which it learns, too

    @property
    def weights_sha256(self) -> str:
        """Of the weights it starts from, or empty."""
        return "" if self.weights is None else digest(self.weights.path)

    def open_store(self, data: Data) -> Store:
        """The images it trains on. What becomes white is found for all of them together."""
        return open_data(
            data,
            image_size=self.preprocessing.image_size,
            greyscale=self.recipe.greyscale,
            bad_images=self.recipe.bad_images,
        )

    def over(self, store: Store) -> "Resolution":
        """The same, of these images."""
        how = replace(self.preprocessing, range=store.info.get("range", 0))
        old = store.content is None  # packed by 0.1.0
        recipe = self.recipe.replace(draw="position") if old else self.recipe
        return replace(self, preprocessing=how, recipe=recipe)


def starting_weights(where: str) -> Network:
    """The network of a name, a run directory, or a .safetensors file. A name goes first; ./NAME is
    the path.

    Raises:
        WeightsError: there is no such thing, or it is damaged. RunError: an unfinished run.
    """
    run = RunDirectory(where)
    if where not in named_weights() and run.path.is_dir():
        return run.network()
    return find_weights(where)


def resolve(
    asked: Recipe, draw: str = "content", shards: int | Literal["auto"] = "auto"
) -> Resolution:
    """Fills in what a recipe leaves to the weights, the network and the machine; `draw` is the rule
    of the splits, which an older run that goes on keeps, as a run keeps its `shards`.

    Raises:
        RecipeError, ModelError: it asks for another network than that of the weights, or one that
        cannot be. WeightsError, RunError: there are no such weights.
    """
    device = choose_device(asked.device)
    dtype, why = choose_precision(asked.precision, device)
    weights = starting_weights(asked.weights) if asked.weights != "none" else None
    network, how = network_of(asked, weights), preprocessing_of(asked, weights)
    network.check_input(how.crop)
    filled = filled_in(asked, network, how)
    filled |= {"device": str(device), "precision": "bf16" if dtype is torch.bfloat16 else "fp32"}
    filled["draw"] = draw
    if asked.shards == "auto":
        filled["shards"] = ranks.size() if shards == "auto" else shards
    teacher = starting_weights(asked.teacher) if asked.teacher != "none" else None
    if asked.teacher_size == "auto":  # without a teacher nobody looks at it
        filled["teacher_size"] = (teacher.preprocessing if teacher else how).crop
    recipe = Resolved.from_dict(asked.to_dict() | filled)
    if teacher and recipe.teacher_size != "auto":
        teacher.architecture.check_input(recipe.teacher_size)
    return Resolution(asked, recipe, weights, network, how, device, dtype, why, teacher)


def filled_in(asked: Recipe, network: Architecture, how: Preprocessing) -> dict[str, Any]:
    """The fields that a recipe may leave open, as they came to be."""
    widest = network.convs[-1].channels / ARCHITECTURES[network.name].convs[-1].channels
    return {
        "model": network.name,
        "conv_layers": len(network.convs),
        "fc_layers": len(network.hidden) + 1,
        "hidden": max(network.hidden, default=0),
        "map_side": network.map_side,
        "width": widest if asked.width == "auto" else asked.width,
        "columns": network.columns,
        "norm": network.norm,
        "fc_norm": network.fc_norm,
        "pool": network.pool,
        "activation": network.activation,
        "head": "trained" if asked.head == "auto" else asked.head,
        "image_size": how.image_size,
        "border": how.border,
        "crop": how.crop,
        "mean": "image" if network.mean_image else how.mean,
        "std": how.std,
        "split_seed": asked.splits_from,
    }
