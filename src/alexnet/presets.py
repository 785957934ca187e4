"""The named recipes, each with its source, its command, and what is known about it.

Standard library only, as `recipes`: the command line reads this file to answer `--help`.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alexnet.errors import RecipeError, did_you_mean
from alexnet.recipes import Recipe

# what docs/results.py writes of the summaries in results/
FIGURES = json.loads(Path(__file__).with_name("measured.json").read_text(encoding="utf-8"))


def _measured(name: str, kind: str = "recipes") -> str:
    return str(FIGURES[kind].get(name, "not run"))


def _expected(name: str) -> str:
    return str(FIGURES["expected"].get(name, "unknown"))


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named recipe and what is known about it."""

    recipe: Recipe
    summary: str  # one line
    source: str  # where the idea comes from
    command: str  # the exact command
    expected: str  # the number to expect, and who claims it
    measured: str  # our number, with hardware, time and how often it was run

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", self.recipe.replace())  # a whole one


# what two public programs for Tiny ImageNet say they do; as they really ran, they differ from it
LAST_LAYER = Recipe(
    weights="imagenet-2014",
    freeze="all-but-last",
    flip=False,
    cached_views=1,
    dropout=0.0,
    batch_size=100,
    epochs=20,
    lr=0.001,
    weight_decay=0.0,
    schedule="constant",
)
SMALL_CLASSIFIER = Recipe(
    weights="imagenet-2014",
    freeze="conv",
    image_size=64,
    map_side=1,
    fc_layers=3,
    hidden=256,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    flip=False,
    greyscale="drop",
    init="torch",
    batch_size=4,
    epochs=10,
    lr=0.01,
    weight_decay=0.0,
    schedule="exponential",
    gamma=0.95,
)

# of each colour over the training images of CIFAR-10, from 0 to 1
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

# pixels of 0 to 255 minus the mean image, colour noise, initial weights, rates: all of the paper;
# what its diary of 2012 did by hand at epochs 25, 51 and 79, the plateau does by itself
IMAGENET_2012 = Recipe(
    model="2012",
    init="paper",
    image_size=256,
    crop=227,
    mean="image",
    std=(1 / 255, 1 / 255, 1 / 255),
    lighting=0.1,
    views=10,
    batch_size=128,
    epochs=90,
    lr=0.01,
    schedule="plateau",
    gamma=0.1,
    step_size=5,
)

TINY_IMAGENET_SCRATCH = Recipe(
    model="compact",
    image_size=64,
    crop=56,
    crop_area=0.35,
    dropout=0.2,
    views=2,
    val_size=0.02,
    batch_size=128,
    epochs=30,
    optimizer="adamw",
    lr=0.002,
    weight_decay=0.05,
    label_smoothing=0.1,
)

CIFAR10_FAST = Recipe(
    model="fast",
    image_size=32,
    crop_padding=1,
    mean=CIFAR10_MEAN,
    std=CIFAR10_STD,
    views=2,
    dropout=0.0,
    val_size=0.02,
    batch_size=480,
    shards=2,
    epochs=3,
    optimizer="muon",
    lr=0.24,
    momentum=0.6,
    weight_decay=0.02,
    warmup=0.6,
    label_smoothing=0.05,
)
RECIPES: dict[str, Preset] = {
    "digits": Preset(
        recipe=Recipe(
            image_size=16,
            crop_padding=1,
            flip=False,
            mean=(0.3, 0.3, 0.3),
            std=(0.35, 0.35, 0.35),
            width=0.5,
            pool="max",
            batch_size=64,
            epochs=12,
            lr=0.05,
            nesterov=True,
            dropout=0.2,
        ),
        summary="handwritten digits that come with scikit-learn: all the way in under a minute",
        source="ours; UCI Optical Recognition of Handwritten Digits, as scikit-learn ships it",
        command="alexnet train digits",
        expected=_expected("digits"),
        measured=_measured("digits"),
    ),
    "cifar10": Preset(
        recipe=Recipe(
            image_size=32,
            crop_padding=4,
            erase=0.25,
            mean=CIFAR10_MEAN,
            std=CIFAR10_STD,
            views=2,
            dropout=0.0,
            batch_size=256,
            epochs=24,
            lr=0.2,
            nesterov=True,
            warmup=4.0,
            label_smoothing=0.1,
        ),
        summary="CIFAR-10 from scratch",
        source="ours",
        command="alexnet train cifar10",
        expected=_expected("cifar10"),
        measured=_measured("cifar10"),
    ),
    "cifar10-fast": Preset(
        recipe=CIFAR10_FAST,
        summary="CIFAR-10 from scratch in about a minute of training",
        source="ours; whitening and Muon after airbench94 (Jordan, 2024)",
        command="alexnet train cifar10 --recipe cifar10-fast",
        expected=_expected("cifar10-fast"),
        measured=_measured("cifar10-fast"),
    ),
    "cifar10-best": Preset(
        recipe=CIFAR10_FAST.replace(
            model="wide", crop_padding=4, erase=0.4, epochs=30, label_smoothing=0.1
        ),
        summary="CIFAR-10 from scratch, for an hour",
        source="ours; whitening and Muon after airbench94 (Jordan, 2024)",
        command="alexnet train cifar10 --recipe cifar10-best",
        expected=_expected("cifar10-best"),
        measured=_measured("cifar10-best"),
    ),
    "cifar10-ablation": Preset(
        recipe=Recipe(
            image_size=32,
            crop_padding=4,
            mean=CIFAR10_MEAN,
            std=CIFAR10_STD,
            fc_layers=3,
            hidden=512,
            dropout=0.2,
            batch_size=256,
            epochs=6,
            lr=0.1,
            nesterov=True,
        ),
        summary="CIFAR-10, what an ablation starts from: 5 convolutions, 3 fully connected layers",
        source="ours; the questions of a public notebook",
        command="alexnet sweep cifar10 --study cifar10-ablation",
        expected=_expected("cifar10-ablation"),
        measured=_measured("cifar10-ablation"),
    ),
    "cifar10-ablation-as-run": Preset(
        recipe=Recipe(
            model="2012",
            columns=1,
            norm="batch-for-lrn",
            init="torch",
            image_size=227,
            flip=False,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            batch_size=128,
            epochs=6,
            optimizer="adam",
            lr=1e-4,
            weight_decay=5e-4,
            decay_all=True,
            schedule="constant",
            loss="double-softmax",
        ),
        summary="CIFAR-10 at 227 px with a softmax in the network and one in the loss",
        source="a public notebook, as its code runs; it looks at no validation split, we keep one",
        command="alexnet sweep cifar10 --study cifar10-ablation-as-run",
        expected="70.20 % test top-1 after 10 epochs (the notebook)",
        measured=_measured("cifar10-ablation-as-run"),
    ),
    "folder": Preset(
        recipe=Recipe(
            weights="auto",
            freeze="conv",
            head="auto",
            crop_area=0.5,
            fc_norm="batch",
            views=2,
            dropout=0.5,
            batch_size=32,
            epochs=60,
            optimizer="adamw",
            lr=0.0015,
            weight_decay=0.05,
            finetune_epochs=10,
            keep="one-se",
            finetune_lr=0.0001,
            lr_decay_below=0.8,
        ),
        summary="a folder of your own images, from the backbone that comes with alexnet",
        source="ours; docs/backbone.md",
        command="alexnet train PATH",
        expected=_expected("folder"),
        measured=_measured("folder"),
    ),
    "scratch": Preset(
        recipe=Recipe(
            image_size=72, crop=64, crop_area=0.35, batch_size=64, epochs=30, lr=0.05, nesterov=True
        ),
        summary="a folder of your own images, from scratch at 64 px",
        source="ours",
        command="alexnet train PATH --recipe scratch",
        expected="depends on the images",
        measured=_measured("scratch"),
    ),
    "backbone": Preset(
        recipe=TINY_IMAGENET_SCRATCH.replace(
            views=1, label_smoothing=0.0, teacher="bvlc-2012", teacher_size=112
        ),
        summary="the network that comes with this package, from Tiny ImageNet and a teacher",
        source="ours",
        command="alexnet train TINY-IMAGENET --recipe backbone",
        expected=_expected("backbone"),
        measured=_measured("backbone"),
    ),
    "tiny-imagenet-scratch": Preset(
        recipe=TINY_IMAGENET_SCRATCH,
        summary="Tiny ImageNet from scratch at 56 px, the backbone without a teacher",
        source="ours",
        command="alexnet train TINY-IMAGENET --recipe tiny-imagenet-scratch",
        expected=_expected("tiny-imagenet-scratch"),
        measured=_measured("tiny-imagenet-scratch"),
    ),
    "cifar10-lrn": Preset(
        recipe=Recipe(
            model="2014",
            norm="lrn",
            pool="overlapping",
            init="torch",
            image_size=70,
            crop=64,
            flip=False,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            batch_size=256,
            epochs=20,
            lr=0.1,
            momentum=0.9,
            weight_decay=0.0,
            schedule="plateau",
            gamma=0.1,
            step_size=10,
        ),
        summary="CIFAR-10 with LRN and overlapping pooling, scaled to 70 px, cropped to 64",
        source="a public command-line program; docs/recipes.md maps its flags onto ours",
        command="alexnet train cifar10 --recipe cifar10-lrn",
        expected="70.5 to 71 % validation top-1 (the program's claim)",
        measured=_measured("cifar10-lrn"),
    ),
    "finetune": Preset(
        recipe=Recipe(
            weights="imagenet-2014",
            freeze="conv",
            fc_layers=2,
            hidden=1024,
            fc_norm="batch",
            views=2,
            batch_size=64,
            epochs=10,
            optimizer="adamw",
            lr=0.001,
            weight_decay=0.05,
            label_smoothing=0.1,
            finetune_epochs=5,
            finetune_lr=0.0001,
            lr_decay_below=0.8,
        ),
        summary="a folder of your own images, from pretrained weights: the head first, then all",
        source="ours",
        command="alexnet train PATH --recipe finetune",
        expected="depends on the images",
        measured=_measured("finetune"),
    ),
    "tiny-imagenet": Preset(
        recipe=Recipe(
            weights="imagenet-2014",
            freeze="conv",
            image_size=227,
            crop_area=0.6,
            fc_layers=2,
            hidden=1024,
            fc_norm="batch",
            views=2,
            batch_size=64,
            epochs=4,
            optimizer="adamw",
            lr=0.001,
            weight_decay=0.05,
            label_smoothing=0.1,
            finetune_epochs=3,
            finetune_lr=0.0001,
            lr_decay_below=0.8,
        ),
        summary="Tiny ImageNet at 227 px from pretrained weights: the head first, then everything",
        source="ours",
        command="alexnet train tiny-imagenet",
        expected=_expected("tiny-imagenet"),
        measured=_measured("tiny-imagenet"),
    ),
    "tiny-imagenet-last-layer": Preset(
        recipe=LAST_LAYER,
        summary="Tiny ImageNet, only the last layer of the 2014 network is trained",
        source="a public program, as its description says: SGD with a rate of 0.001",
        command="alexnet train tiny-imagenet --recipe tiny-imagenet-last-layer",
        expected="the program claims about 49.1 % on the official val split, on which it chose",
        measured=_measured("tiny-imagenet-last-layer"),
    ),
    "tiny-imagenet-last-layer-as-run": Preset(
        recipe=replace(
            LAST_LAYER,
            cache=False,
            frozen_dropout=True,
            dropout=0.5,
            flip=True,
            crop_area=0.08,
            init="torch",
            optimizer="adam",
        ),
        summary="the same as it really ran: Adam, and dropout at work in the frozen layers",
        source="a public program, as its code runs; it chose its epoch on the official val split",
        command="alexnet train tiny-imagenet --recipe tiny-imagenet-last-layer-as-run",
        expected="the program claims about 49.1 % on the official val split at epoch 13",
        measured=_measured("tiny-imagenet-last-layer-as-run"),
    ),
    "tiny-imagenet-frozen": Preset(
        recipe=SMALL_CLASSIFIER,
        summary="Tiny ImageNet at 64 px, frozen convolutions, a classifier of 256-256-256",
        source="a public program, as its description says: the whole classifier, -5 % per epoch",
        command="alexnet train tiny-imagenet --recipe tiny-imagenet-frozen",
        expected="the program claims 14.0 % on the official val split, on which it chose",
        measured=_measured("tiny-imagenet-frozen"),
    ),
    "tiny-imagenet-frozen-as-run": Preset(
        recipe=replace(
            SMALL_CLASSIFIER, freeze="all-but-last", cache=False, frozen_dropout=True, gamma=0.05
        ),
        summary="the same as it really ran: only the last layer, the rate times 0.05 each epoch",
        source="a public program, as its code runs; it chose its epoch on the official val split",
        command="alexnet train tiny-imagenet --recipe tiny-imagenet-frozen-as-run",
        expected="the program claims 14.0 % on the official val split, 5.3 % in training",
        measured=_measured("tiny-imagenet-frozen-as-run"),
    ),
    "imagenet-2012": Preset(
        recipe=IMAGENET_2012,
        summary="ImageNet as in the paper of 2012: two columns, LRN, mean image, ten views",
        source=(
            "Krizhevsky, Sutskever, Hinton (2012); 227 px without padding for its 224, which its "
            "code rounds up. Its code also has 0.03 instead of 0.01 for conv3 to conv5, and twice "
            "the rate for biases: not here"
        ),
        command="alexnet train IMAGENET --recipe imagenet-2012",
        expected=(
            "59.3 % top-1, 81.8 % top-5 on the official val split (the paper's one network: "
            "errors of 40.7 and 18.2 %)"
        ),
        measured=_measured("imagenet-2012"),
    ),
    "imagenet-2014": Preset(
        recipe=IMAGENET_2012.replace(
            model="2014", crop=224, schedule="step", step_size=23, gamma=0.15874
        ),
        summary="ImageNet with the one tower of 2014, its rate lowered four times",
        source=(
            "Krizhevsky (2014): the rate times 250^(-1/3) at a quarter, half and three quarters of "
            "90 epochs; images as in 2012"
        ),
        command="alexnet train IMAGENET --recipe imagenet-2014",
        expected="56.5 % top-1, 79.1 % top-5 (torchvision's weights of this network, one view)",
        measured=_measured("imagenet-2014"),
    ),
    "tiny-image10-frozen": Preset(
        recipe=Recipe(
            weights="imagenet-2014",
            freeze="conv",
            image_size=227,
            fc_layers=1,
            fc_norm="batch",
            views=2,
            batch_size=64,
            epochs=35,
            lr=0.001,
            weight_decay=0.0,
            dropout=0.5,
            schedule="step",
            step_size=15,
        ),
        summary="Tiny Image10 on pretrained, frozen convolutions: a linear head",
        source="ours; the data set of a public program's grid search",
        command="alexnet train tiny-image10 --recipe tiny-image10-frozen",
        expected=_expected("tiny-image10-frozen"),
        measured=_measured("tiny-image10-frozen"),
    ),
    "tiny-image10": Preset(
        recipe=Recipe(
            model="fast",
            image_size=64,
            crop=56,
            erase=0.25,
            dropout=0.2,
            views=10,
            batch_size=50,
            epochs=40,
            optimizer="muon",
            lr=0.1,
            momentum=0.6,
            weight_decay=0.05,
            warmup=0.1,
            label_smoothing=0.1,
        ),
        summary="Tiny Image10 from scratch at 56 px",
        source="ours; the data set of a public program's grid search",
        command="alexnet train tiny-image10",
        expected=_expected("tiny-image10"),
        measured=_measured("tiny-image10"),
    ),
    "tiny-image10-as-run": Preset(
        recipe=Recipe(
            model="2014",
            init="torch",
            image_size=64,
            border=43,
            batch_size=12,
            epochs=35,
            lr=0.001,
            weight_decay=0.0,
            schedule="constant",
        ),
        summary="Tiny Image10 as a public program ran it: 64 px inside 150 px of black, no decay",
        source="a public program, as its code runs: its schedule never lowered the rate",
        command="alexnet train tiny-image10 --recipe tiny-image10-as-run",
        expected="54 % test top-1 (the program: 54.6 and 53.4 % with this rate and momentum)",
        measured=_measured("tiny-image10-as-run"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Study:
    """A named sweep: a recipe, what is changed in it, and what is known about it."""

    data: str  # the data set that it is about
    recipe: str  # a preset
    changes: dict[str, Any] = field(default_factory=dict)  # for all trials
    grid: dict[str, list[Any]] = field(default_factory=dict)  # every combination of these
    points: list[dict[str, Any]] = field(default_factory=list)  # or just these
    seeds: int = 1
    summary: str
    source: str
    measured: str

    @property
    def base(self) -> Recipe:
        """What all its trials have in common."""
        return preset(self.recipe).recipe.replace(**self.changes)


PROGRAMS_GRID: dict[str, list[Any]] = {
    "lr": [1e-4, 1e-3, 5e-3],
    "momentum": [0.9, 0.5],
    "gamma": [0.1, 0.01],
}
# of CIFAR-10's training images, and 10,000 that are the same for every seed to compare on
ON_15_000_IMAGES = {"fraction": 0.5, "val_size": 0.4, "split_seed": 0, "batch_size": 64}

STUDIES: dict[str, Study] = {
    "tiny-image10": Study(
        data="tiny-image10",
        recipe="tiny-image10",
        changes={
            "model": "auto",
            "width": 0.75,
            "dropout": 0.5,
            "erase": 0.0,
            "views": 2,
            "epochs": 20,
            "optimizer": "sgd",
            "lr": 0.05,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 1e-3,
            "schedule": "step",
            "step_size": 12,
            "warmup": 0.0,
        },
        grid=PROGRAMS_GRID,
        summary="a public program's grid of rates, momenta and decay factors, from scratch",
        source="a public program's grid search; ours trains 20 epochs at 56 px and does decay",
        measured=_measured("tiny-image10", "studies"),
    ),
    "tiny-image10-frozen": Study(
        data="tiny-image10",
        recipe="tiny-image10-frozen",
        grid=PROGRAMS_GRID,
        summary="the same grid on pretrained, frozen convolutions, all trials side by side",
        source="a public program's grid search; the features are ours",
        measured=_measured("tiny-image10-frozen", "studies"),
    ),
    "tiny-image10-as-run": Study(
        data="tiny-image10",
        recipe="tiny-image10-as-run",
        grid=PROGRAMS_GRID,
        summary="the same grid as the program ran it: its decay factor does nothing",
        source="a public program's grid search, 130.6 minutes on a CUDA desktop",
        measured=_measured("tiny-image10-as-run", "studies"),
    ),
    "cifar10-ablation": Study(
        data="cifar10",
        recipe="cifar10-ablation",
        points=[
            {},
            {"conv_layers": 4},
            {"conv_layers": 3},
            {"fc_layers": 4},
            {"fc_layers": 2},
            {"fc_layers": 1},
            {"pool": "average"},
            {"activation": "leaky-relu"},
            {"loss": "bce"},
            {"loss": "double-softmax"},
        ],
        seeds=3,
        summary="depth, pooling, activation and loss: one change at a time, equal epochs, 3 seeds",
        source="the questions of a public notebook, which changed several things at once",
        measured=_measured("cifar10-ablation", "studies"),
    ),
    "cifar10-ablation-as-run": Study(
        data="cifar10",
        recipe="cifar10-ablation-as-run",
        points=[
            {"epochs": 10},
            {"conv_layers": 4},
            {"conv_layers": 3},
            {"fc_layers": 2, "pool": "average"},
            {"fc_layers": 1},
            {"activation": "leaky-relu"},
            {"conv_layers": 3, "loss": "softmax-bce"},
            {"conv_layers": 3, "loss": "softmax-bce", "epochs": 20},
        ],
        summary="a public notebook's eight experiments as they ran, double softmax and all",
        source=(
            "a public notebook: 70.20, 73.09, 67.00, 61.73, 56.59, 62.83, 80.04 and 81.37 % test "
            "top-1, in this order; it says 'average pooling' of its fourth alone"
        ),
        measured=_measured("cifar10-ablation-as-run", "studies"),
    ),
    "paper-claims": Study(
        data="cifar10",
        recipe="imagenet-2012",
        changes=ON_15_000_IMAGES
        | {
            "width": 0.5,
            "hidden": 256,
            "map_side": 1,
            "init": "torch",  # N(0, 0.01) is made for the full width
            "image_size": 72,
            "crop": 67,
            "views": 1,
            "epochs": 12,
            "schedule": "one-cycle",
        },
        points=[
            {},
            {"norm": "none"},
            {"pool": "max"},
            {"dropout": 0.0},
            {"lighting": 0.0},
            {"columns": 1, "width": 0.25},
            {"columns": "unlinked"},
            {"conv_layers": 4},
        ],
        seeds=3,
        summary="what the paper of 2012 says each of its tricks brings, one at a time, 3 seeds",
        source="Krizhevsky, Sutskever, Hinton (2012), and the logs of its code; docs/results.md",
        measured=_measured("paper-claims", "studies"),
    ),
    "paper-relu": Study(
        data="cifar10",
        recipe="cifar10-ablation",
        changes=ON_15_000_IMAGES
        | {
            "norm": "none",
            "conv_layers": 3,
            "fc_layers": 1,
            "map_side": 3,
            "width": 0.5,
            "dropout": 0.0,
            "flip": False,
            "crop_padding": 0,
            "weight_decay": 0.0,
            "nesterov": False,
            "epochs": 8,
            "schedule": "constant",
        },
        points=[
            {"activation": "relu", "init": "torch", "lr": 0.01},
            {"activation": "tanh", "init": "he", "lr": 0.01},
        ],
        seeds=3,
        summary="ReLU against tanh in a network of four layers without any regularisation, 3 seeds",
        source="Krizhevsky, Sutskever, Hinton (2012), figure 1; the best rate and init of 3 or 4",
        measured=_measured("paper-relu", "studies"),
    ),
}

# the preset that suits a named data set; folder suits all others
BY_DATA = {name: name for name in ("digits", "cifar10", "tiny-imagenet", "tiny-image10")}


def preset(name: str) -> Preset:
    """The preset of a name; a misspelt one is an error with a suggestion."""
    if not isinstance(name, str):
        raise RecipeError(
            f"a recipe is a Recipe or the name of one, got a {type(name).__name__}.",
            'Fields are keywords: alexnet.train(data, "folder", epochs=5)',
        )
    if name not in RECIPES:
        raise RecipeError(f"there is no recipe {name!r}.", did_you_mean(name, RECIPES))
    return RECIPES[name]


def study(name: str) -> Study:
    """The study of a name; a misspelt one is an error with a suggestion."""
    if name not in STUDIES:
        raise RecipeError(f"there is no study {name!r}.", did_you_mean(name, STUDIES))
    return STUDIES[name]


def preset_for(data: str) -> str:
    """The name of the preset that suits `data`."""
    return BY_DATA.get(data.partition("?")[0], "folder")  # how it is read changes nothing


def default_recipe(data: str, name: str | None = None) -> Recipe:
    """The recipe `name`, or without a name the one that suits `data`."""
    return preset(name or preset_for(data)).recipe


def recipe(name: str = "folder", **fields: Any) -> Recipe:
    """A whole Recipe: that of a preset, with other values in some fields.

    Args:
        name: of the preset; `alexnet recipes` lists them.
        fields: as the fields of Recipe, and as the flags of `alexnet train`.

    Raises:
        RecipeError: no such preset or field, or a value that it cannot have.
    """
    return preset(name).recipe.replace(**fields)


def nearest(found: Recipe, data: str) -> tuple[str, dict[str, Any]]:
    """The name of the preset that a recipe is nearest to, that of `data` before others, and the
    fields that are not the preset's; an empty name where plain `Recipe()` is nearer than any."""
    fields = found.to_dict()
    known = {name: RECIPES[name].recipe for name in (preset_for(data), *RECIPES)} | {"": Recipe()}
    changes = {
        name: {key: value for key, value in fields.items() if value != getattr(one, key)}
        for name, one in known.items()
    }
    name = min(changes, key=lambda one: len(changes[one]))
    return name, changes[name]


def told(found: Recipe, data: str) -> str:
    """A recipe in a few words: the preset that it is nearest to, and what is changed in it."""
    name, changes = nearest(found, data)
    words = [f"{key.replace('_', '-')} {_value(value)}" for key, value in changes.items()]
    return f"recipe {name or 'of its own'}" + (f" with {', '.join(words)}" if words else "")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
