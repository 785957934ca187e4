"""`bench`: what this machine can do, and how long each recipe will take on it."""

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from alexnet.console import hushed, in_words, progress, say, warn
from alexnet.data.datasets import outline
from alexnet.data.store import Store, StoreWriter
from alexnet.errors import RecipeError
from alexnet.network.checkpoint import Network, save_network
from alexnet.network.description import ARCHITECTURES
from alexnet.network.model import AlexNet
from alexnet.network.weight_names import OFFICIAL, named_weights
from alexnet.network.weights import CAFFE, TORCHVISION
from alexnet.presets import RECIPES, preset
from alexnet.recipes import Recipe
from alexnet.runs.choice import MANY, from_backbone
from alexnet.runs.network import described_weights, from_scratch, preprocessing_of
from alexnet.runtime import (
    as_found,
    choose_device,
    choose_precision,
    environment,
    forget_peak_memory,
    peak_memory,
)
from alexnet.sweeping.estimates import Images, measure
from alexnet.sweeping.limits import machine_rates, share_of_processor
from alexnet.training.run import Run
from alexnet.training.train import set_up
from alexnet.values import Between, Count, Precision, checked_arguments

LEFT = 0.9  # of the processor; with less, another program is at work
STEPS = 2  # of each kind are timed at least
OF_LIMITS, OF_RECIPE = 4.0, 1.6  # seconds that these take on two cores, timed steps left out


@dataclass(frozen=True)
class Extent:
    """How large a data set is."""

    classes: int
    train: int
    test: int = 0  # 0 with `val`: the figures are those of validation
    val: int = 0  # 0: drawn from the training images
    apart: bool = True  # False: the test images are drawn, too

    def images(self, recipe: Recipe) -> Images:
        """What a recipe makes of it."""
        test = self.test if self.apart else round(self.train * recipe.test_size)
        train = round((self.train - (0 if self.apart else test)) * recipe.fraction)
        val = 0 if recipe.folds else self.val or round(train * recipe.val_size)
        return Images(train - (0 if self.val else val), val, test)


# what the commands of the recipes name; the official val split of Tiny ImageNet is the test split
EXTENTS = {
    "digits": Extent(10, 1797, apart=False),
    "cifar10": Extent(10, 50_000, 10_000),
    "tiny-imagenet": Extent(200, 100_000, 10_000),
    "tiny-image10": Extent(10, 4000, 500, 500),
    "imagenet": Extent(1000, 1_281_167, val=50_000),
}
FOLDER = "path"  # any folder, of so many pictures as are asked for
IMAGES, CLASSES = 1000, 10  # of a folder of which nothing is said


@dataclass(frozen=True)
class Timed:
    """How long a recipe takes, packing, the start of the program and the report left out."""

    recipe: str
    images: int  # to train on
    classes: int
    images_per_second: float  # in an epoch, validation included
    features: float  # seconds for what frozen layers give, which is computed once
    epoch: float  # seconds
    finetune_epoch: float
    seconds: float  # of the whole training and its evaluation
    memory: int  # bytes: the most that was in use; 0: not known


@checked_arguments
@as_found()
def bench(
    data: str = "",
    recipes: Sequence[str] = (),
    *,
    images: Count = IMAGES,
    classes: Annotated[int, Between(2)] = CLASSES,
    seconds: Annotated[float, Between(0)] = 1.5,
    device: str = "auto",
    precision: Precision = "auto",
) -> dict[str, Any]:
    """What this machine can do, and how long each recipe will take on it: a few real steps on
    made-up pictures are timed, the rest is arithmetic.

    Args:
        data: as for `train`, whose number of images and classes is then taken, and whose recipes
            are timed; empty for every recipe with the data set that it is made for.
        recipes: names of those to time instead.
        images, classes: of the folder that recipes for any folder are timed for, without data.
        seconds: for which the steps of each recipe are timed, about; the more, the surer.
        device, precision: as in a recipe.

    Returns:
        {"environment": versions, processor, threads, ...; "processor_share": how much of the
        processor other programs left, from 0 to 1; "limits": {what, with its unit: {threads:
        rate}}; "recipes": a dict of `Timed` for each}.

    Raises:
        RecipeError: no such recipe or device; images or classes where they are known. DataError: no
            such data.
    """
    where = choose_device(device)
    dtype, _ = choose_precision(precision, where)
    names = list(recipes) or suitable(data)
    if (images, classes) != (IMAGES, CLASSES):
        require_unknown_size(data, names)
    folder = Extent(classes, images, apart=False)
    if data and data not in EXTENTS:
        count, known, _ = outline(data)
        folder = Extent(len(known), count, apart=False)
    settings = {"device": device, "precision": precision}
    asked = {name: preset(name).recipe.replace(**settings) for name in names}
    takes = OF_LIMITS + len(names) * (OF_RECIPE + seconds)
    say(
        f"about {in_words(takes)}: this machine's limits, then steps of {len(names)} "
        f"recipe{'s' * (len(names) > 1)} on made-up pictures; leave it alone as long as that"
    )
    share = share_of_processor(torch.get_num_threads())
    say_if_busy(share)
    rates = machine_rates(where, dict.fromkeys((torch.float32, dtype)))
    timed = []
    with (
        tempfile.TemporaryDirectory(prefix="alexnet-") as work,
        progress("recipes", len(names)) as advance,
    ):
        for name in names:
            extent = EXTENTS.get(data or made_for(name), folder)
            timed.append(time_recipe(name, asked[name], extent, seconds, where, Path(work)))
            advance(1)
    after = share_of_processor(torch.get_num_threads())
    if share >= LEFT:
        say_if_busy(after)
    return {
        "environment": environment(where, dtype, ""),
        "processor_share": min(share, after),
        "limits": rates,
        "recipes": list(map(asdict, timed)),
    }


def require_unknown_size(data: str, names: Sequence[str]) -> None:
    """RecipeError where there is no folder whose size is not known."""
    if data or FOLDER not in map(made_for, names):
        whose = f"{data} has its own" if data else f"the data of {', '.join(names)} is known"
        raise RecipeError(
            f"--images and --classes are of a folder that nobody has shown, and {whose}.",
            "Leave them out; or time recipes for any folder, without DATA.",
        )


def suitable(data: str) -> list[str]:
    """The recipes that are made for a data set, or for any folder; all of them without data."""
    wanted = data if data in EXTENTS else FOLDER
    return [name for name in RECIPES if not data or made_for(name) == wanted]


def made_for(name: str) -> str:
    """The data set in the command of a recipe."""
    return shlex.split(preset(name).command)[2].lower()


def time_recipe(
    name: str, asked: Recipe, extent: Extent, seconds: float, device: torch.device, work: Path
) -> Timed:
    """Times a recipe on made-up pictures, for about so many seconds, in the folder `work`."""
    if asked.weights == "auto":
        count = extent.images(asked).train
        asked = from_backbone(asked, count) if count <= MANY else from_scratch(asked)[0]
    images = extent.images(asked)
    known = forget_peak_memory(device)
    with hushed():
        run = on_made_up(asked, extent.classes, work)
        kinds = 2 + (run.recipe.freeze != "none") + 2 * bool(run.recipe.finetune_epochs)
        speed = measure(run, images=images, folds=asked.folds, least=STEPS, seconds=seconds / kinds)
    return Timed(
        recipe=name,
        images=images.train,
        classes=extent.classes,
        images_per_second=images.train / speed.epoch,
        features=speed.once,
        epoch=speed.epoch,
        finetune_epoch=speed.finetune_epoch,
        seconds=speed.once + speed.training(run.recipe),
        memory=peak_memory(device) if known else 0,
    )


def on_made_up(asked: Recipe, classes: int, work: Path, steps: int = 1) -> Run:
    """A run of a recipe whose weights are named, on noise of its size, so many steps of it, in the
    folder `work`."""
    for field in ("weights", "teacher"):
        if (wanted := getattr(asked, field)) != "none" and wanted not in named_weights():
            asked = asked.replace(**{field: str(stand_in(wanted, work))})
    starts = described_weights(asked.weights) if asked.weights != "none" else None
    side = preprocessing_of(asked, starts).image_size
    store = made_up(work / "stores", side, classes, steps * asked.batch_size)
    # folds would find a validation split, and nothing is solved here
    return set_up(str(store.path), asked.replace(fraction=1.0, folds=0))


def made_up(parent: Path, side: int, classes: int, train: int) -> Store:
    """A Store of noise: so many images to train on, and one for each of the other splits."""
    count = train + 2
    generator = np.random.default_rng(0)
    words = [f"class {number}" for number in range(classes)]
    info = {
        "source": "noise",
        "classes": words,
        "names": words,
        "splits": {"train": (0, train), "val": (train, train + 1), "test": (train + 1, count)},
        "bad": [],
        "left_out": [],
        "fingerprint": "0" * 64,
    }
    name = f"noise-{side}-{classes}-{train}"
    with StoreWriter(parent, (3, side, side), "uint8") as writer:
        writer.append(generator.integers(0, 256, (count, 3, side, side), dtype=np.uint8))
        labels = np.arange(count) % classes
        return Store.open(writer.finish(name, info, labels, [f"{n}.png" for n in range(count)]))


def stand_in(name: str, folder: Path) -> Path:
    """Random weights of the same network as named ones that are not on this machine: the time does
    not depend on them."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        model, how = ("2014", TORCHVISION) if name in OFFICIAL else ("2012", CAFFE)
        network, classes = ARCHITECTURES[model], [f"class {number}" for number in range(1000)]
        tensors = AlexNet(network, len(classes)).state_dict()
        save_network(path, Network(path, network, tensors, classes, classes, how))
    return path


def say_if_busy(share: float) -> None:
    """A warning where other programs are at work."""
    if share < LEFT:
        warn(
            f"other programs take {1 - share:.0%} of the processor: these figures are worth "
            "little; measure again when they have ended"
        )
