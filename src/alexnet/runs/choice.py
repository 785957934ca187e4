"""What a training starts from where its recipe leaves that open: our backbone, or nothing."""

import re
from collections.abc import Collection
from pathlib import Path

from alexnet.data.datasets import open_data, outline
from alexnet.data.sources import Data
from alexnet.network.weight_names import named_weights
from alexnet.presets import BY_DATA, nearest, preset
from alexnet.recipes import BYSTANDERS, Recipe
from alexnet.runs.network import changed_in_folder, from_scratch, other_network, preprocessing_of
from alexnet.runs.resolution import starting_weights

BACKBONE = "backbone"
# training images from which on a network of its own learns more than the backbone knows, and the
# side in px up to which images show too little of what it knows: judgements, neither is measured
MANY, TINY = 20_000, 16
# training images; with 1,500 and 3,000 a head that is solved had within 0.2 points of what one that
# is trained has, or more, and of everything trained after it, in less time (docs/backbone.md)
ENOUGH = 3000
FOLDS = 5
# what a head that is solved goes by, too; with any other field changed it is trained
OF_SOLVED = (BYSTANDERS - {"cache"}) | frozenset(
    "weights image_size border crop mean std greyscale views fraction test_size seed "
    "split_seed folds".split()
)
# what asks for everything to be trained after the head, however few images there are
ALL_OF_IT = {"finetune_epochs", "mixup", "cutmix"}
MADE_HERE = {"digits", "tiny-image10"}  # data sets that are not looked for under their names
FEW_CHANGES = 5  # a recipe that differs from a preset in more fields is the user's own
# CIFAR-10's classes, and what else two of them are called
CIFAR10 = set("airplane automobile bird cat deer dog frog horse ship truck".split())
CIFAR10_TOO = {"plane": "airplane", "car": "automobile"}


def settled(
    data: Data, asked: Recipe, began_from: str = "", swept: Collection[str] = ()
) -> tuple[Recipe, str]:
    """A recipe whose weights are settled, and what there is to say about that.

    Args:
        data: as for `train`.
        asked: where its weights are "auto", they become the backbone; or where that does not suit
            the data or the network asked for, what was changed in the recipe `folder` is changed in
            `scratch` instead.
        began_from: the weights of the run that goes on; empty for a new one.
        swept: the fields in which the trainings of a sweep will differ from it.
    """
    if asked.weights != "auto":
        told = made_for_other_data(data, asked), named_like_a_file(asked)
        return asked, ". ".join(filter(None, told))
    if "weights" in swept and not began_from:
        return from_scratch(asked)[0], "takes recipe scratch for the rest, since weights are swept"
    images, classes, apart = outline(data)
    made = "".join(
        f". These are the classes of {name}, for which --recipe {name} is made: "
        f"{preset(name).expected}"
        for name in well_known(images, classes)
    )
    why = reason_for_scratch(data, asked, began_from, images, swept)
    if not why:
        recipe = from_backbone(asked, images, apart, swept)
        return recipe, (
            f"starts from our backbone: {preset('folder').expected}{made}{how_solved(recipe)}"
        )
    recipe, left_out = from_scratch(asked)
    if left_out:
        why += f"; {', '.join(map(flag, left_out))} of frozen layers left out"
    return recipe, f"starts from scratch: {why}{made}"


def from_backbone(
    asked: Recipe, images: int, apart: bool = False, swept: Collection[str] = ()
) -> Recipe:
    """A recipe that starts from the backbone, for so many training images, with a validation split
    or without. Of few images, none is lost to one: the head is solved and cross-validated, unless
    something is asked for, or swept, that only training has use for."""
    changed, few = changed_in_folder(asked).keys() | set(swept), images < ENOUGH
    solvable = asked.head == "auto" and not apart and changed <= OF_SOLVED
    if solvable and (few or asked.folds):
        return solved(asked, asked.folds or FOLDS)
    all_of_it = not few or changed & ALL_OF_IT
    head_alone = {} if all_of_it else {"finetune_epochs": 0}
    return asked.replace(weights=BACKBONE, **head_alone)


def solved(asked: Recipe, folds: int) -> Recipe:
    """A recipe whose head is solved on the backbone instead of trained."""
    return asked.replace(
        weights=BACKBONE, head="logistic", folds=folds, fc_norm="none", dropout=0.0,
        finetune_epochs=0,
    )  # fmt: skip


def how_solved(recipe: Recipe) -> str:
    """That its head is not trained, in words, where it is so."""
    if not recipe.folds:
        return ""
    return (
        f". Of few images a head is solved at once, and cross-validated in {recipe.folds} folds; "
        "--head trained trains one"
    )


def flag(name: str) -> str:
    """A field of the recipe as it is asked for."""
    return "--" + name.replace("_", "-")


def well_known(images: int, classes: list[str]) -> list[str]:
    """The well-known data sets that so many training images of these classes look like."""
    lower = {CIFAR10_TOO.get(one.lower(), one.lower()) for one in classes}
    synsets = all(re.fullmatch(r"n\d{8}", one) for one in classes)
    found = {
        "digits": lower == set("0123456789"),
        "cifar10": lower == CIFAR10,
        "tiny-imagenet": synsets and images == 500 * len(classes),
        "tiny-image10": synsets and len(classes) == 10,
    }
    return [name for name in found if found[name]]


def named_like_a_file(asked: Recipe) -> str:
    """Whether weights were asked for by a name that something in this folder has, too."""
    given = {"weights": asked.weights, "teacher": asked.teacher}
    twice = [f for f, name in given.items() if name in named_weights() and Path(name).exists()]
    return "; ".join(
        f"{flag(field)} {given[field]} takes the weights of that name; what is called so in this "
        f"folder is ./{given[field]}"
        for field in twice
    )


def made_for_other_data(data: Data, asked: Recipe) -> str:
    """Whether a recipe is one that was made for a data set which this is not, or a folder may have
    been meant that is called as a data set."""
    here = str(data) in BY_DATA and Path(str(data)).exists()
    if here and str(data) in MADE_HERE:
        return f"{data} is the data set of that name; what is called so in this folder is ./{data}"
    name, changed = nearest(asked, str(data))
    if len(changed) > FEW_CHANGES:
        return ""
    mine = [one for one in BY_DATA if name == one or name.startswith(f"{one}-")]
    by_name = str(data) in mine
    if not mine or (by_name and not here) or set(mine) & set(well_known(*outline(data)[:2])):
        return ""
    instead = f"as ./{data} it" if by_name else "without --recipe a folder"
    return (
        f"recipe {name} is made for {mine[-1]}, and this is other data; {instead} starts from our "
        "backbone"
    )


def reason_for_scratch(
    data: Data, asked: Recipe, began_from: str, images: int, swept: Collection[str] = ()
) -> str:
    """Why the backbone is not what to start from; empty where it is."""
    if began_from:
        return f"so this {'sweep' if swept else 'run'} began" if began_from == "none" else ""
    other = other_network(asked, swept)
    if other:
        flags = ", ".join(map(flag, other))
        return f"the backbone is another network than asked for ({flags})"
    if images > MANY:
        return (
            f"{images:,} training images are enough for a network of their own (with "
            f"--recipe finetune --weights {BACKBONE} it starts from the backbone all the same)"
        )
    size = preprocessing_of(asked, starting_weights(BACKBONE)).image_size
    store = open_data(data, image_size=size, greyscale=asked.greyscale, bad_images=asked.bad_images)
    side = store.x.shape[-1]
    if side <= TINY:
        return f"images of {side} px show too little of what the backbone was trained on"
    return ""
