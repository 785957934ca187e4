"""What the recipes of the papers cost on ImageNet: some training steps are timed, the rest is
arithmetic.

    uv run benchmarks/imagenet.py [--recipe imagenet-2012] [--steps 3] [--threads 1]

A step is that of the recipe: a batch of 128 images of 1,000 classes, crops and colour noise of
stored bytes, forward, backward, update. Pixels are random, on which the time does not depend. What
is left out: packing, reading from disk, and validation, which adds a hundredth. Times are processor
time, over the threads, and so are those of a machine without other work, nearly.
"""

import argparse
import itertools
import statistics
import time

import torch

from alexnet.data import augment
from alexnet.data.store import Batch, Shard
from alexnet.fitting.step import training_step
from alexnet.network.model import AlexNet, parameter_count
from alexnet.presets import preset
from alexnet.runs.resolution import resolve
from alexnet.training.from_recipe import loss_of, optimizer_of

IMAGES, CLASSES = 1_281_167, 1000  # ILSVRC-2012, training


def seconds_of_steps(name: str, steps: int) -> list[float]:
    """Processor seconds of so many training steps of a recipe, after one that is not counted."""
    resolution = resolve(preset(name).recipe)
    recipe, how = resolution.recipe, resolution.preprocessing
    model = AlexNet(resolution.architecture, CLASSES, recipe.init)
    model.to(resolution.device).to(memory_format=torch.channels_last)
    print(f"{name}: {parameter_count(model):,} parameters, {how.crop} px, {recipe.precision}")
    optimizer = optimizer_of(recipe, model, float(recipe.lr))
    transform = augment.training_transform(
        image_size=how.image_size,
        border=how.border,
        crop=how.crop,
        crop_padding=recipe.crop_padding,
        crop_area=recipe.crop_area,
        flip=recipe.flip,
        jitter=recipe.jitter,
        lighting=recipe.lighting,
        axes=[0.2] * 9,
        erase=recipe.erase,
        mean=how.mean,
        std=how.std,
    )
    generator = torch.Generator().manual_seed(0)
    shape = (recipe.batch_size, 3, how.image_size, how.image_size)
    x = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    y = torch.randint(CLASSES, (recipe.batch_size,), generator=generator)
    marks = [time.process_time()]
    for step in range(steps + 1):
        batch = transform(x, generator).to(resolution.device)
        value, _ = training_step(
            model,
            optimizer,
            Batch([Shard.whole(batch, y.to(resolution.device))]),
            lr=float(recipe.lr),
            loss=loss_of(recipe),
            dtype=resolution.dtype,
            clip=recipe.clip,
            key=(recipe.seed, 0, step),
        )
        float(value)
        marks.append(time.process_time())
    return [after - before for before, after in itertools.pairwise(marks[1:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", nargs="*", default=["imagenet-2012", "imagenet-2014"])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.recipe:
        recipe = preset(name).recipe
        times = [one / given.threads for one in seconds_of_steps(name, given.steps)]
        each = statistics.median(times)
        days = each * IMAGES / recipe.batch_size * recipe.epochs / 86_400
        print(
            f"{each:.2f} s a step ({min(times):.2f} to {max(times):.2f}, n = {len(times)}), "
            f"{recipe.batch_size / each:.0f} images/s; {recipe.epochs} epochs of {IMAGES:,} "
            f"images: {days:,.0f} days on {given.threads} thread(s)"
        )


if __name__ == "__main__":
    main()
