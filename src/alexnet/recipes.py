"""Recipe: everything that decides a run, flat and typed.

Standard library only: the command line reads this file to answer `--help` without importing torch.
The comment above a field is its help text.
"""

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

from alexnet.errors import InputError, RecipeError, did_you_mean
from alexnet.values import BadImages, Between, Positive, Precision, checked

Open = Literal["auto"]  # a field that is left to the weights, the network, the data or the machine

WEIGHT_RULES = ("none", "balanced", "effective")

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?|mps:0|cpu:0")

EXPLAINED = "`alexnet train --help-all` explains the fields."
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run. Equal recipes on equal data give equal runs.

    One that names some fields, `Recipe(epochs=5)`, amends the preset of the data it is given to;
    one that has all of them, from a preset, a run, a file or `replace`, is taken as it is.
    """

    # -- the network -------------------------------------------------------------------------------

    # The network: 2012 (two columns, LRN), 2014 (one tower, torchvision's), small (3x3 kernels, for
    # 32 to 64 px), compact (7x7 kernels with stride 2 first, for 64 to 128 px), fast (whitened
    # pixels with stride 2 first, for 32 px), wide (whitened pixels, for 32 px). auto: that of the
    # weights, or small without weights.
    model: Literal["auto", "2012", "2014", "small", "compact", "fast", "wide"] = "auto"
    # Start from these weights: a name of `alexnet weights list`, a run directory, or a .safetensors
    # file. They choose the network and how images are prepared. none: from scratch. auto: the
    # backbone that comes with alexnet, or the recipe scratch where it suits the data better.
    weights: str = "none"
    # How many convolution layers; fewer than 5 leaves out conv4, then conv3. auto: all that the
    # network has.
    conv_layers: Open | Literal[3, 4, 5] = "auto"
    # How many fully connected layers, the last one (the classes) included. auto: as many as the
    # network has by itself.
    fc_layers: Annotated[int, Between(1, 4)] | Open = "auto"
    # Units of each hidden fully connected layer. auto: as many as the network has by itself.
    hidden: Annotated[int, Between(1, 65536)] | Open = "auto"
    # The last feature map is averaged to this side before the fully connected layers. auto: as the
    # network does by itself.
    map_side: Annotated[int, Between(1, 32)] | Open = "auto"
    # Multiplies the number of channels and of hidden units. auto: as the network is.
    width: Annotated[float, Between(0, 8, open_low=True)] | Open = "auto"
    # 1: one tower instead of the two columns of 2012. unlinked: columns that do not see each other
    # in conv3 either, and meet in the fully connected layers. auto: as the network is.
    columns: Open | Literal[1, 2, "unlinked"] = "auto"
    # Normalisation after a convolution: batch after each, lrn after the non-linearity of conv1 and
    # conv2, batch-for-lrn batch normalisation there instead; auto: what the network has by itself
    # (2012: lrn, 2014: none, others: batch).
    norm: Literal["auto", "none", "lrn", "batch", "batch-for-lrn"] = "auto"
    # Normalisation of the features and after each hidden fully connected layer; auto: what the
    # network has by itself, which is none in all of them.
    fc_norm: Literal["auto", "none", "batch"] = "auto"
    # Pooling: max and average are 2x2 with stride 2, overlapping is max 3x3 with stride 2; auto:
    # what the network has by itself, which is max in fast and overlapping in the others.
    pool: Literal["auto", "max", "average", "overlapping"] = "auto"
    # Non-linearity after each layer; auto: what the network has by itself, which is relu in all of
    # them.
    activation: Literal["auto", "relu", "leaky-relu", "tanh"] = "auto"
    # Share of hidden units (without hidden layers: of features) dropped while training.
    dropout: Annotated[float, Between(0, 0.95)] = 0.5
    # Initial weights of what starts fresh: he is He et al. (2015), paper is the 2012 paper's N(0,
    # 0.01) with biases of 1, torch is what torch's layers have by themselves.
    init: Literal["he", "paper", "torch"] = "he"

    # -- what is frozen ----------------------------------------------------------------------------

    # Train only the fully connected layers (conv), only the last layer (all-but-last), or
    # everything (none). What is frozen runs in evaluation mode.
    freeze: Literal["none", "conv", "all-but-last"] = "none"
    # Run the frozen layers once over the images and keep their output; --no-cache runs them again
    # in every epoch, on freshly augmented images.
    cache: bool = True
    # How many views of each image the cache holds; each epoch uses one of them. 1: the centre. 2:
    # its mirror too, if `flip`. More: the others are augmented once, as the recipe says.
    cached_views: Annotated[int, Between(1, 64)] = 2
    # Let dropout in the frozen layers go on dropping while training, as some programs do without
    # knowing; needs --no-cache.
    frozen_dropout: bool = False
    # How the unfrozen layers get their weights: by training, or solved at once: ridge (least
    # squares) or logistic regression, each with the penalty that is best on validation. auto:
    # trained, but solved and cross-validated where a folder has few images.
    head: Literal["auto", "trained", "ridge", "logistic"] = "trained"
    # With a solved head: judge the penalty, the confidence and what is unlike anything seen on so
    # many folds of all training images, each by a head that was solved on the others, and solve the
    # head that is kept on all of them. No image is lost to a validation split. 0: on that split.
    folds: Annotated[int, Between(0, 20)] = 0
    # Epochs of a second phase, in which everything is trained, starting from the best of the first.
    finetune_epochs: Annotated[int, Between(0)] = 0
    # Learning rate of the second phase.
    finetune_lr: Annotated[float, Positive] = 0.001
    # Where everything is trained: the learning rate of each layer as a share of that of the layer
    # above it. 1: the same rate for all.
    lr_decay_below: Annotated[float, Between(0.01, 1)] = 1.0

    # -- the images --------------------------------------------------------------------------------

    # Images are scaled so that their shorter side has this many pixels, and their centre square is
    # kept. auto: what the weights were made for, or 64 without weights.
    image_size: Annotated[int, Between(1, 1024)] | Open = "auto"
    # Pixels of black added on each side of the scaled image.
    border: Annotated[int, Between(0, 512)] = 0
    # Side of the square the network sees: random while training, the centre otherwise. auto: what
    # the weights were made for where image_size is left to them too, else all of the image.
    crop: Annotated[int, Between(1, 1024)] | Open = "auto"
    # Pixels of mirrored border added on each side before the random crop.
    crop_padding: Annotated[int, Between(0, 128)] = 0
    # Below 1: a random crop of at least this share of the area, resized ("random resized crop"),
    # instead of a plain one.
    crop_area: Annotated[float, Between(0.01, 1)] = 1.0
    # Mean of each channel (red, green, blue; pixels from 0 to 1), subtracted. image: the network
    # subtracts the mean of the training images, pixel by pixel. auto: what the weights were made
    # with, or ImageNet's without weights.
    mean: tuple[float, float, float] | Open | Literal["image"] = "auto"
    # Standard deviation of each channel, divided by; 1/255 for each leaves pixels from 0 to 255.
    # auto: likewise.
    std: tuple[float, float, float] | Open = "auto"
    # Mirror half of the training images.
    flip: bool = True
    # Strength of random brightness, contrast and saturation changes; 0.2 means factors from 0.8 to
    # 1.2.
    jitter: Annotated[float, Between(0, 0.9)] = 0.0
    # The 2012 paper's colour noise: along each principal axis of the training pixels' colours, this
    # share of their standard deviation; the paper has 0.1.
    lighting: Annotated[float, Between(0, 1)] = 0.0
    # Side of a square set to the mean at a random place of each training image, as a share of the
    # crop's side ("cutout").
    erase: Annotated[float, Between(0, 0.9)] = 0.0
    # Blend the images of a training batch with one another, and their labels as much (Zhang et al.,
    # 2018): how much is drawn from Beta(mixup, mixup), for each batch. 0: not.
    mixup: Annotated[float, Between(0, 100)] = 0.0
    # Put a rectangle of another image of the batch into each, and as much of its label (Yun et al.,
    # 2019): its share of the area is drawn from Beta(cutmix, cutmix). With mixup too, each batch
    # has one of the two by chance. 0: not.
    cutmix: Annotated[float, Between(0, 100)] = 0.0
    # Greyscale images: convert them to RGB, or drop them.
    greyscale: Literal["convert", "drop"] = "convert"
    # Unreadable images: error lists them and stops, skip lists them and goes on without them.
    bad_images: BadImages = "error"
    # Views averaged in evaluation and prediction: 1 is the centre, 2 the centre and its mirror
    # image, 10 these and the four corners with their mirror images (2012 paper). Validation during
    # training looks at one.
    views: Literal[1, 2, 10] = 1
    # Share of the training images to use, drawn once, the same from each class.
    fraction: Annotated[float, Between(0, 1, open_low=True)] = 1.0
    # Share of the training images set aside for validation, where the data has no validation split.
    val_size: Annotated[float, Between(0, 0.9, open_low=True)] = 0.1
    # Share of the images set aside for the test, where the data has no splits at all.
    test_size: Annotated[float, Between(0, 0.9, open_low=True)] = 0.2

    # -- the training ------------------------------------------------------------------------------

    # Images per step.
    batch_size: Annotated[int, Between(1)] = 128
    # Cut each batch into so many shards, added in one order: any number of processes up to that
    # gives the same bits. On a CPU each thread computes shards by itself: that needs less memory,
    # loses little beside a busy program, and gives the same bits for any number of threads. Batch
    # normalisation looks at one shard. auto: as many as there are processes, one without others.
    shards: Annotated[int, Between(1, 4096)] | Open = "auto"
    # Batch normalisation looks at all shards of a batch, as it does at an uncut one: each such
    # layer waits for all of them, four times a step.
    sync_norm: bool = False
    # Passes over the training images. 0: evaluate the given weights.
    epochs: Annotated[int, Between(0)] = 30
    # Optimiser. muon: Nesterov's momentum, made orthogonal in all layers but the last; its decay is
    # that of adamw.
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = "sgd"
    # Learning rate; the highest one of its schedule. auto: a short sweep over rates suggests one.
    lr: Annotated[float, Positive] | Open = 0.1
    # Momentum of SGD and Muon, beta1 of Adam.
    momentum: Annotated[float, Between(0, 0.9999)] = 0.9
    # Nesterov's momentum (SGD; Muon always has it).
    nesterov: bool = False
    # Weight decay per step, times the learning rate.
    weight_decay: Annotated[float, Between(0)] = 5e-4
    # Let biases and normalisation layers decay too.
    decay_all: bool = False
    # How the learning rate moves: exponential (times gamma each epoch), step (times gamma every
    # step_size epochs), plateau (times gamma after step_size epochs without a better validation
    # accuracy), cosine and one-cycle (down to 0).
    schedule: Literal["constant", "exponential", "step", "plateau", "cosine", "one-cycle"] = (
        "one-cycle"
    )
    # Factor of the schedules exponential, step and plateau.
    gamma: Annotated[float, Between(0, 1, open_low=True)] = 0.1
    # Epochs of the schedules step (between two drops) and plateau (without progress before a drop).
    step_size: Annotated[int, Between(1)] = 10
    # Epochs over which the learning rate rises from zero; for one-cycle its rising part.
    warmup: Annotated[float, Between(0)] = 0.0
    # Cross entropy, or binary cross entropy of each class summed over the classes. double-softmax
    # and softmax-bce take a softmax first and one of these two on top, as some programs do without
    # knowing; they learn slowly.
    loss: Literal["cross-entropy", "bce", "double-softmax", "softmax-bce"] = "cross-entropy"
    # Share of the target spread evenly over all classes.
    label_smoothing: Annotated[float, Between(0, 0.9)] = 0.0
    # What the loss of an image weighs, by its class: none (all the same), balanced (each class the
    # same in all), effective (less steep, after Cui et al., 2019), or a .csv or .json file of
    # classes and weights.
    class_weights: str = "none"
    # Which images an epoch has: shuffled (each once), or balanced (as many, each class as often as
    # another, so that those of small classes come several times).
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    # How many images are mixed with one another at a time. An epoch goes through what lies together
    # (128 KiB) in an order of chance and shuffles so many images of it; data beyond memory is then
    # read in long pieces. 0: all of them.
    shuffle_window: Annotated[int, Between(0)] = 0
    # Largest norm of the gradient; longer ones are scaled down. 0: no limit.
    clip: Annotated[float, Between(0)] = 0.0
    # Stop after this many epochs without a better validation accuracy. 0: never.
    patience: Annotated[int, Between(0)] = 0
    # The epoch whose weights are kept. best: of the highest validation accuracy. one-se: the last
    # one at most one standard error below it, since of few images the highest is chance.
    keep: Literal["best", "one-se"] = "best"
    # Decay per step of the moving average of the weights that is validated and kept. 0: no average.
    average: Annotated[float, Between(0, 0.99999)] = 0.0
    # Learn from a teacher, too: weights, as --weights, whose last feature map the network learns to
    # predict beside the classes, by a linear map that is thrown away. none: the classes alone.
    teacher: str = "none"
    # How much the teacher's part of the loss weighs; that of the classes weighs 1.
    teacher_weight: Annotated[float, Positive] = 2.0
    # Side in px to which the images that the network sees are scaled for the teacher. auto: what
    # the teacher was made for.
    teacher_size: Annotated[int, Between(1, 1024)] | Open = "auto"

    # -- the machine -------------------------------------------------------------------------------

    # Arithmetic: auto takes bf16 where the hardware has it, and says so.
    precision: Precision = "auto"
    # Where to compute: auto takes a CUDA device if there is one, else the CPU. mps: Apple's GPU.
    device: str = "auto"
    # Only algorithms that give the same bits every time, also on CUDA. (On a CPU that is always
    # so.)
    deterministic: bool = False
    # Everything random is drawn from this seed: splits, initial weights, order, augmentation,
    # dropout.
    seed: Annotated[int, Between(0, 2**31 - 1)] = 0
    # Draw splits and `fraction` from this seed, so that runs of several seeds see the same images.
    # auto: from `seed`.
    split_seed: Annotated[int, Between(0, 2**31 - 1)] | Open = "auto"
    # Save the state from which a run can go on every so many epochs, but once a second at most.
    save_every: Annotated[int, Between(1)] = 1
    # Write the loss and the learning rate to TensorBoard every so many steps.
    log_every: Annotated[int, Between(1)] = 50
    # Write TensorBoard event files.
    tensorboard: bool = True
    # Write report.html at the end, with pictures of the data and of what the network sees.
    report: bool = True

    def __new__(cls, **given: Any) -> Self:
        made = super().__new__(cls)
        object.__setattr__(made, "_given", tuple(given))  # not a field: no part of what is compared
        return made

    @property
    def amendments(self) -> dict[str, Any] | None:
        """The fields that were named; None for a whole recipe."""
        given: tuple[str, ...] = self.__dict__["_given"]
        whole = len(given) == len(dataclasses.fields(self))
        return None if whole else {name: getattr(self, name) for name in given}

    def __post_init__(self) -> None:
        for name, hint in self._types().items():
            value = renamed(name, getattr(self, name), hint)
            object.__setattr__(self, name, checked_field(name, value, hint))
        if not DEVICE.fullmatch(self.device):
            raise RecipeError(
                f"device is {self.device!r}, expected auto, cpu, cuda, cuda:N or mps.",
                "Use --device auto.",
            )
        self._check_sides()
        self._check_training()
        self._check_freezing()

    @classmethod
    def _types(cls) -> dict[str, Any]:
        return FIELD_TYPES

    def _check_sides(self) -> None:
        size, crop = self.image_size, self.crop
        if size == "auto":
            return
        side = size + 2 * self.border
        if crop != "auto" and crop > side:
            raise RecipeError(
                f"crop is {crop} px, but images are scaled to {size} px"
                + (f", with their border {side} px." if self.border else "."),
                "Lower --crop or raise --image-size (--border adds black).",
            )
        if self.views == 10 and crop in ("auto", side):
            raise RecipeError(
                f"views is 10, windows at the corners and the centre, but images and crop both are "
                f"{side} px.",
                "Use --views 2, or a --crop below --image-size.",
            )
        if self.crop_padding >= size:
            raise RecipeError(
                f"crop_padding is {self.crop_padding} px, but a mirrored border must be smaller "
                f"than the image, {size} px.",
                "Lower --crop-padding.",
            )

    def _check_training(self) -> None:
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise RecipeError(
                f"nesterov needs SGD with a momentum; the optimizer is {self.optimizer}, the "
                f"momentum {self.momentum:g}.",
                "Use --no-nesterov, or --optimizer sgd --momentum 0.9.",
            )
        if self.epochs and self.warmup > self.epochs:
            raise RecipeError(
                f"warmup is {self.warmup:g} epochs, the whole training {self.epochs}.",
                "Lower --warmup or raise --epochs.",
            )
        if self.teacher != "none" and (self.freeze != "none" or not self.epochs):
            raise RecipeError(
                f"teacher is {self.teacher}, but the convolutions that learn from it are not "
                "trained.",
                "Leave out --teacher, or use --freeze none and --epochs.",
            )
        rule = self.class_weights
        if rule not in WEIGHT_RULES and not rule.lower().endswith((".csv", ".json")):
            raise RecipeError(
                f"class_weights is {rule!r}, expected {', '.join(WEIGHT_RULES)}, or a .csv or "
                ".json file.",
                did_you_mean(rule, WEIGHT_RULES),
            )
        if self.std != "auto" and min(self.std) <= 0:
            raise RecipeError(
                f"std is {self.std}, expected three numbers above 0.", "Example: --std 0.5 0.5 0.5"
            )
        if not self.epochs and self.weights == "none":
            raise RecipeError(
                "epochs is 0 and there are no weights to evaluate.",
                "Give --weights RUN, or --epochs.",
            )

    def _check_freezing(self) -> None:
        if self.freeze == "none":
            if self.solved:
                raise RecipeError(
                    f"head is {self.head}, which is solved on the output of frozen layers; "
                    "nothing is frozen.",
                    f"Use --freeze all-but-last --head {self.head}.",
                )
            if self.finetune_epochs:
                raise RecipeError(
                    "finetune_epochs is the second phase after training on frozen layers; nothing "
                    "is frozen.",
                    "Use --finetune-epochs 0 to train everything from the beginning, or "
                    "--freeze conv.",
                )
        elif self.weights == "none":
            raise RecipeError(
                f"freeze is {self.freeze}, but there are no weights: random layers would be "
                "frozen.",
                "Give --weights NAME (`alexnet weights list`), or --freeze none; to train a folder "
                "from scratch, --recipe scratch.",
            )
        if (self.mixup or self.cutmix) and self.freeze != "none" and not self.finetune_epochs:
            name = "mixup" if self.mixup else "cutmix"
            raise RecipeError(
                f"{name} is {getattr(self, name):g}, but it mixes images that everything is "
                "trained on, and only layers after frozen ones are trained.",
                f"Leave out --{name}, or use --finetune-epochs or --freeze none.",
            )
        if self.views == 10 and self.freeze != "none" and self.cache:
            raise RecipeError(
                "views is 10, but the cache would hold ten times the features, of training images "
                "too.",
                "Use --views 2, and after training `alexnet eval RUN --views 10`; or --no-cache.",
            )
        if self.frozen_dropout and self.cache:
            raise RecipeError(
                "frozen_dropout needs the frozen layers to run in every epoch.", "Use --no-cache."
            )
        if self.solved and self.evens_out:
            raise RecipeError(
                f"head is {self.head}, which is solved at once, with every image alike.",
                "Leave out --class-weights and --sampling, or use --head trained.",
            )
        if self.solved and not self.cache:
            raise RecipeError(
                f"head {self.head} is solved on cached features.", "Leave out --no-cache."
            )
        unsolved = self.head != "auto" and (not self.solved or self.finetune_epochs > 0)
        if self.folds == 1 or (self.folds and unsolved):
            wanted = "2 or more" if self.folds == 1 else "a solved head, and nothing after it"
            raise RecipeError(
                f"folds is {self.folds}, which needs {wanted}.",
                "Use --folds 5 --head logistic --finetune-epochs 0, or leave out --folds.",
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The recipe of `to_dict`; an unknown field is an error with a suggestion, a missing one
        has the value by which releases without it behaved."""
        if not isinstance(fields, dict):
            raise RecipeError(f"a recipe is fields with values, got {fields!r:.60}.", EXPLAINED)
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                close = nearest_name(str(name), known)
                raise RecipeError(
                    f"there is no recipe field {name!r}.",
                    f"Did you mean {close!r}?" if close else EXPLAINED,
                )
        return cls(**(NEWER | fields))

    def replace(self, **changes: Any) -> Self:
        """The recipe with other values in some fields; errors as in `from_dict`."""
        return self.from_dict(self.to_dict() | changes)

    @property
    def splits_from(self) -> int:
        """The seed from which splits are drawn."""
        return self.seed if self.split_seed == "auto" else self.split_seed

    @property
    def solved(self) -> bool:
        """Whether the head is solved at once instead of trained."""
        return self.head in ("ridge", "logistic")

    @property
    def evens_out(self) -> bool:
        """Whether images of small classes count more than others."""
        return self.class_weights != "none" or self.sampling != "shuffled"

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that name the recipe: equal for equal recipes, and the same in
        every release, whatever fields came after it."""
        return digest_of(self.unchanging())

    def trains_as(self, other: "Recipe") -> bool:
        """Whether runs of both differ in nothing but chance: the seed, and what the machine and the
        log bring along."""
        return not any(
            value != getattr(other, name)
            for name, value in self.to_dict().items()
            if name not in BYSTANDERS and name != "seed"
        )

    def unchanging(self) -> dict[str, Any]:
        """The fields as every release spells them, without those that came later and are not used:
        what names are made of."""
        return {
            name: SPELT_0_1[name][0] if name in SPELT_0_1 and value == SPELT_0_1[name][1] else value
            for name, value in self.to_dict().items()
            if name not in NEWER or value != NEWER[name]
        }


def digest_of(value: Any) -> str:
    """Eight hexadecimal digits that name something JSON-ready."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


# What runs of releases without a field did, by the field's name: taken for what an older recipe
# lacks, and left out of the digest. A field that is added gets a line here.
NEWER: dict[str, Any] = {
    "shards": "auto",
    "teacher": "none",
    "teacher_weight": 2.0,
    "teacher_size": "auto",
    "split_seed": "auto",
    "keep": "best",
    "class_weights": "none",
    "sampling": "shuffled",
    "shuffle_window": 0,
    "folds": 0,
    "sync_norm": False,
    "mixup": 0.0,
    "cutmix": 0.0,
}

# Where release 0.1.0 wrote another value for the same thing: {field: (its value, ours)}. It is
# taken wherever a recipe is made, and is what digests are made of, so that names stay.
SPELT_0_1: dict[str, tuple[Any, Any]] = {
    "weights": ("", "none"),
    "init": ("auto", "he"),
    "mean": (None, "auto"),
    "std": (None, "auto"),
    "width": (0.0, "auto"),
    **dict.fromkeys("conv_layers fc_layers hidden map_side columns".split(), (0, "auto")),
    **dict.fromkeys("image_size crop".split(), (0, "auto")),
}


def renamed(name: str, value: Any, hint: Any) -> Any:
    """A value that 0.1.0 spelt otherwise, as it is spelt now."""
    if name not in SPELT_0_1 or isinstance(value, bool):
        return value
    old, new = SPELT_0_1[name]
    closed = new == "auto" and Open not in get_args(hint)  # of what is resolved
    return new if value == old and not closed else value


@dataclass(frozen=True, kw_only=True)
class Resolved(Recipe):
    """A recipe in which nothing is left open any more: what a run really did.

    `weights` names what it started from, and `lr` is "auto" until the finder has found one.
    """

    model: Literal["2012", "2014", "small", "compact", "fast", "wide"]
    conv_layers: Literal[3, 4, 5]
    fc_layers: Annotated[int, Between(1, 4)]
    hidden: Annotated[int, Between(0, 65536)]  # 0 where there is no hidden layer
    map_side: Annotated[int, Between(1, 32)]
    width: Annotated[float, Between(0, 8, open_low=True)]
    columns: Literal[1, 2, "unlinked"]
    norm: Literal["none", "lrn", "batch", "batch-for-lrn"]
    fc_norm: Literal["none", "batch"]
    pool: Literal["max", "average", "overlapping"]
    activation: Literal["relu", "leaky-relu", "tanh"]
    head: Literal["trained", "ridge", "logistic"]
    image_size: Annotated[int, Between(1, 1024)]
    crop: Annotated[int, Between(1, 2048)]
    mean: tuple[float, float, float] | Literal["image"]
    std: tuple[float, float, float]
    precision: Literal["bf16", "fp32"]
    # along which colours `lighting` goes (`pixels.colour_axes`); empty without it
    lighting_axes: tuple[float, ...] = ()
    # what the loss of an image of each class weighs (`imbalance.class_weights`); empty for 1
    loss_weights: tuple[float, ...] = ()
    # how images were drawn for the test and validation splits (`splits.make_splits`)
    draw: Literal["content", "position"] = "content"

    @classmethod
    def _types(cls) -> dict[str, Any]:
        return RESOLVED_TYPES


# -- which fields do not matter where --------------------------------------------------------------

# where and how a run is watched, not what comes out
BYSTANDERS = frozenset(
    "device deterministic precision bad_images cache save_every log_every tensorboard".split()
) | {"report"}
# what may differ between heads that train side by side
STACKABLE = frozenset("lr momentum weight_decay schedule gamma step_size warmup".split())
# what does not change how long a step takes
ANY_SPEED = STACKABLE | frozenset(
    "seed epochs finetune_epochs finetune_lr label_smoothing dropout class_weights sampling "
    "shuffle_window mixup cutmix".split()
)


# what other programs call a field
ELSEWHERE = {
    **dict.fromkeys("learning_rate lr0 base_lr".split(), "lr"),
    **dict.fromkeys("batch bs batchsize train_batch_size".split(), "batch_size"),
    **dict.fromkeys("epoch num_epochs n_epochs max_epochs".split(), "epochs"),
    **dict.fromkeys("imgsz img_size size resolution input_size".split(), "image_size"),
    **dict.fromkeys("arch net network backbone architecture".split(), "model"),
    **dict.fromkeys("wd l2 decay".split(), "weight_decay"),
    **dict.fromkeys("opt optim".split(), "optimizer"),
    **dict.fromkeys("pretrained checkpoint init_weights".split(), "weights"),
    **dict.fromkeys("gpu gpus cuda".split(), "device"),
    **dict.fromkeys("smoothing".split(), "label_smoothing"),
    **dict.fromkeys("scheduler lr_scheduler sched".split(), "schedule"),
    **dict.fromkeys("sync_bn syncbn sync_batchnorm".split(), "sync_norm"),
    **dict.fromkeys("ema".split(), "average"),
    **dict.fromkeys("mixup_alpha mix_up".split(), "mixup"),
    **dict.fromkeys("cutmix_alpha cut_mix".split(), "cutmix"),
    **dict.fromkeys("class_weight cls_weights weight_classes".split(), "class_weights"),
    **dict.fromkeys("random_seed manual_seed".split(), "seed"),
    **dict.fromkeys("output output_dir out_dir save_dir project name".split(), "out"),
}


def nearest_name(name: str, known: Collection[str]) -> str:
    """The one of the known names of fields or flags that a misspelt one stands for, or that other
    programs call so; empty if there is none."""
    spelt = name.replace("-", "_").lower()
    by_field = {one.replace("-", "_"): one for one in known}
    if ELSEWHERE.get(spelt) in by_field:
        return by_field[ELSEWHERE[spelt]]
    close = difflib.get_close_matches(spelt, by_field, n=1, cutoff=0.6)
    return by_field[close[0]] if close else ""


def checked_field(name: str, value: object, hint: Any) -> Any:
    """`value` as the type of a field wants it (`values.checked`), or RecipeError naming the
    field."""
    try:
        return checked(name, value, hint)
    except InputError as error:
        raise RecipeError(error.message, error.hint or EXPLAINED) from None


FIELD_TYPES: dict[str, Any] = get_type_hints(Recipe, include_extras=True)
RESOLVED_TYPES: dict[str, Any] = get_type_hints(Resolved, include_extras=True)
