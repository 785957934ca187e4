"""What a run trains on and is evaluated on: images through transforms, or cached features."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from alexnet import ranks
from alexnet.data import augment
from alexnet.data.splits import Splits
from alexnet.data.store import Batches, Store, keyed_seed
from alexnet.errors import RecipeError
from alexnet.fitting.distillation import Teacher
from alexnet.network import inference
from alexnet.network.checkpoint import load_weights
from alexnet.network.description import Preprocessing
from alexnet.network.frozen import (
    FeatureStores,
    FrozenPart,
    Remembered,
    View,
    evaluation_view,
    feature_batches,
    feature_stores,
)
from alexnet.network.model import AlexNet
from alexnet.recipes import Resolved
from alexnet.runs.resolution import Resolution
from alexnet.scoring.metrics import Labels


@dataclass
class Inputs:
    """The data of a run, as batches for whatever is frozen in its network."""

    resolution: Resolution
    store: Store
    splits: Splits
    model: AlexNet
    memory: Remembered | None = None  # features of single images, where they are looked at again
    _features: FeatureStores | None = None

    @property
    def recipe(self) -> Resolved:
        """What the run does."""
        return self.resolution.recipe

    @property
    def preprocessing(self) -> Preprocessing:
        """Of every image."""
        return self.resolution.preprocessing

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.resolution.device

    @property
    def dtype(self) -> torch.dtype:
        """The arithmetic."""
        return self.resolution.dtype

    @property
    def features(self) -> FeatureStores:
        """Features of all images of the run, from the cache."""
        if self._features is None:
            splits = self.splits
            rows = np.sort(np.concatenate([splits.train, splits.val, splits.test]))
            body, _ = self.model.split(self.recipe.freeze)
            frozen = FrozenPart(body, self.device, self.dtype, memory=self.memory)
            views = self.cached_views()
            self._features = feature_stores(frozen, self.store, rows, views, self.recipe.crop)
        return self._features

    def prepare(self) -> None:
        """On several ranks features are made, together, before the training."""
        if ranks.size() > 1 and self.recipe.freeze != "none" and self.recipe.cache:
            _ = self.features

    def cached_views(self) -> list[View]:
        """The centre; its mirror, where training or evaluation looks at it; augmented ones."""
        recipe, how = self.recipe, self.preprocessing
        centre, mirror = evaluation_view(how), evaluation_view(how, mirror=True)
        views = [centre]
        if recipe.views == 2 or (recipe.flip and recipe.cached_views > 1):
            views.append(mirror)
        random = ("crop_padding", "crop_area", "flip", "jitter", "lighting", "erase")
        for number in range(2, recipe.cached_views if self.augmented() else 2):
            settings = centre.settings | {name: getattr(recipe, name) for name in random}
            if recipe.lighting:
                settings["lighting_axes"] = recipe.lighting_axes
            settings["seed"] = keyed_seed(recipe.seed, number)
            views.append(View(f"augmented{number}", self._training_transform(), settings))
        return views

    def trains_on(self, view: View) -> bool:
        """Whether training looks at a cached view; it may be there for evaluation alone."""
        return view.name != "mirror" or (self.recipe.flip and self.recipe.cached_views > 1)

    def augmented(self) -> bool:
        """Whether the recipe changes training images in other ways than by mirroring them."""
        recipe = self.recipe
        return bool(
            recipe.crop < recipe.image_size + 2 * recipe.border
            or recipe.crop_padding
            or recipe.crop_area < 1
            or recipe.jitter
            or recipe.lighting
            or recipe.erase
        )

    def teacher(self) -> Teacher | None:
        """What the network learns from beside the classes, if anything."""
        found, size = self.resolution.teacher, self.recipe.teacher_size
        if found is None or size == "auto":
            return None
        network = AlexNet(replace(found.architecture, hidden=()), classes=1, init="empty")
        convolutions = {
            name.removeprefix("features."): tensor
            for name, tensor in found.tensors.items()
            if name.startswith("features.")
        }
        load_weights(network.features, convolutions, str(found.path))
        how = self.preprocessing
        return Teacher(network, found.preprocessing, how, size, self.device, self.dtype)

    def training_batches(self, freeze: str) -> Batches:
        recipe = self.recipe
        how: dict[str, Any] = {
            "batch_size": recipe.batch_size,
            "device": self.device,
            "shuffle": True,
            "balanced": recipe.sampling == "balanced",
            "window": recipe.shuffle_window,
            "seed": recipe.seed,
            "sharding": self._sharding(),
        }
        if freeze != "none" and recipe.cache:
            cached = enumerate(self.cached_views())
            views = [place for place, view in cached if self.trains_on(view)]
            return feature_batches(self.features, self.splits.train, views=views, **how)
        transform = self._training_transform()
        if freeze != "none":
            body, _ = self.model.split(freeze)
            frozen = FrozenPart(body, self.device, self.dtype, dropout=recipe.frozen_dropout)
            transform = frozen.after(transform)
        elif recipe.mixup or recipe.cutmix:
            how["mix"] = partial(augment.mix, recipe.mixup, recipe.cutmix)
        return Batches(self.store, self.splits.train, transform=transform, **how)

    def _sharding(self) -> ranks.Sharding:
        found = ranks.sharding(int(self.recipe.shards), self.recipe.sync_norm)
        if found.sync_norm and len(found.mine) > 1 and self.device.type != "cpu":
            raise RecipeError(
                f"sync_norm on a {self.device.type} device wants one shard for each process, got "
                f"{found.count} for {ranks.size()}: use --shards {ranks.size()}, or --device cpu"
            )
        return found

    def _training_transform(self) -> augment.Transform:
        recipe, how = self.recipe, self.preprocessing
        return augment.training_transform(
            image_size=how.image_size,
            border=how.border,
            crop=how.crop,
            crop_padding=recipe.crop_padding,
            crop_area=recipe.crop_area,
            flip=recipe.flip,
            jitter=recipe.jitter,
            lighting=recipe.lighting,
            axes=recipe.lighting_axes,
            erase=recipe.erase,
            mean=how.mean,
            std=how.std,
        )

    def views(self, indices: Labels, freeze: str) -> list[Batches]:
        """Batches for evaluation, one sequence per view."""
        if freeze == "none":
            return inference.evaluation_views(self.store, indices, self.preprocessing, self.device)
        if self.recipe.cache:
            return [
                feature_batches(
                    self.features,
                    indices,
                    batch_size=inference.EVALUATION_BATCH,
                    device=self.device,
                    views=[view],
                )
                for view in range(self.recipe.views)
            ]
        frozen = FrozenPart(self.model.split(freeze)[0], self.device, self.dtype)
        return [
            Batches(
                self.store,
                indices,
                batch_size=inference.EVALUATION_BATCH,
                transform=frozen.after(transform),
                device=self.device,
            )
            for transform in inference.evaluation_transforms(self.preprocessing)
        ]
