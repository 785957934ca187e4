"""The network that a recipe comes to, what happens to an image before it, and which of them do not
go together. Imports no torch."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from alexnet.errors import ModelError, RecipeError
from alexnet.idle import without_effect
from alexnet.network.description import Architecture, Preprocessing, architecture
from alexnet.network.header import Described, described, load_description
from alexnet.network.weight_names import named_weights, require_weights
from alexnet.presets import preset
from alexnet.recipes import IMAGENET_MEAN, IMAGENET_STD, Recipe
from alexnet.runs.directory import RunDirectory

FROM_SCRATCH = Preprocessing(64, 64, IMAGENET_MEAN, IMAGENET_STD)
# a network that differs in these is another one than the backbone's
NETWORK = "model conv_layers width columns norm pool activation map_side".split()
# what only frozen layers have use for
OF_FROZEN = "freeze cache cached_views frozen_dropout head finetune_epochs finetune_lr".split()


class Made(Protocol):
    """Weights, as far as it matters here: their network and their preprocessing."""

    @property
    def architecture(self) -> Architecture: ...

    @property
    def preprocessing(self) -> Preprocessing: ...


def network_of(asked: Recipe, weights: Made | None) -> Architecture:
    """The network that a recipe comes to.

    Raises:
        RecipeError: it asks for another one than that of the weights, or for columns that it does
        not have.
    """
    base: str | Architecture = "small" if asked.model == "auto" else asked.model
    if weights:
        base = weights.architecture
        if asked.model not in ("auto", base.name):
            raise RecipeError(
                f"model is {asked.model}, but the weights {asked.weights} are of the {base.name} "
                "network.",
                "Leave out --model: weights know their network.",
            )
    shape = "conv_layers fc_layers hidden map_side width columns".split()
    names = (*shape, "norm", "fc_norm", "pool", "activation")
    changes = {name: getattr(asked, name) for name in names}
    given = {name: value for name, value in changes.items() if value != "auto"}
    found = architecture(base, dropout=asked.dropout, **given)
    if asked.mean == "image" and not weights:
        found = replace(found, mean_image=preprocessing_of(asked, weights).crop)
    elif asked.mean == "image" and not found.mean_image:
        raise RecipeError(
            f"mean is image, but the weights {asked.weights} were made without a mean image.",
            "Leave out --mean: weights know how images are prepared.",
        )
    elif asked.mean not in ("auto", "image"):
        found = replace(found, mean_image=0)
    if asked.columns in (2, "unlinked") and found.columns == 1:
        raise RecipeError(
            f"columns is {asked.columns}, but the {found.name} network is one tower.",
            "Leave it out.",
        )
    return found


def idle_fields(asked: Recipe) -> dict[str, str]:
    """`idle.without_effect` of a recipe whose network is not built; errors as `network_of`."""
    weights = described_weights(asked.weights) if asked.weights != "none" else None
    layers = len(network_of(asked, weights).hidden) + 1
    return without_effect(asked.replace(fc_layers=layers))


def preprocessing_of(asked: Recipe, weights: Made | None) -> Preprocessing:
    """What happens to an image before the network sees it. An image size or a border of the
    recipe's own goes without the crop that the weights were made for."""
    how = weights.preprocessing if weights else FROM_SCRATCH
    size = how.image_size if asked.image_size == "auto" else asked.image_size
    own = asked.image_size != "auto" or asked.border > 0
    border = asked.border if own else how.border
    crop = (size + 2 * border if own else how.crop) if asked.crop == "auto" else asked.crop
    mean = how.mean if asked.mean == "auto" else asked.mean
    if mean == "image":  # the network does it
        mean = (0.0, 0.0, 0.0)
    std = how.std if asked.std == "auto" else asked.std
    return Preprocessing(size, crop, mean, std, asked.views, border)


def changed_in_folder(asked: Recipe) -> dict[str, Any]:
    """The fields in which a recipe differs from the preset folder."""
    usual = preset("folder").recipe.to_dict()
    return {name: one for name, one in asked.to_dict().items() if one != usual[name]}


def other_network(asked: Recipe, swept: Collection[str] = ()) -> list[str]:
    """The fields that ask for another network than the backbone's, or will in some trainings."""
    return [name for name in NETWORK if name in {*changed_in_folder(asked), *swept}]


def from_scratch(asked: Recipe) -> tuple[Recipe, list[str]]:
    """The preset scratch, changed in what a recipe changes in the preset folder; and the fields of
    these that only frozen layers have use for, which are left out."""
    changed = changed_in_folder(asked)
    kept = {name: one for name, one in changed.items() if name not in OF_FROZEN}
    if "image_size" in kept:
        kept.setdefault("crop", "auto")  # which it was when the size was chosen
    left_out = [name for name in changed if name in OF_FROZEN]
    return preset("scratch").recipe.replace(**kept), left_out


def described_weights(where: str) -> Described:
    """The network of weights that `resolution.starting_weights` would take; errors as there."""
    run = RunDirectory(where)
    if where not in named_weights() and run.path.is_dir():
        return described(run.about(), where)
    require_weights(where)
    path = named_weights().get(where, Path(where).expanduser())
    return described(load_description(path), where)


def require_sound(asked: Recipe) -> None:
    """Refuses what makes another network of one of the family, or one that cannot learn.

    Raises:
        ModelError: images too small for the network, or of a size by which its last map would be
            blended. RecipeError: as `network_of`, or initial weights made for other pixels.
            WeightsError, RunError: there are no such weights.
    """
    weights = described_weights(asked.weights) if asked.weights != "none" else None
    network, how = network_of(asked, weights), preprocessing_of(asked, weights)
    network.check_input(how.crop)
    of_weights = weights is not None and how.crop == weights.preprocessing.crop
    if asked.map_side == "auto" and not of_weights:
        _require_whole_map(network, how)
    if asked.init == "paper" and weights is None and network.norm in ("none", "lrn"):
        _require_pixels(how)


def _require_whole_map(network: Architecture, how: Preprocessing) -> None:
    """ModelError where the last map has to be blended."""
    if not network.blends(how.crop):
        return
    found, wanted, side = network.feature_side(how.crop), network.map_side, network.fitting_input
    larger = "" if how.image_size + 2 * how.border >= side else f"--image-size {side} "
    raise ModelError(
        f"images of {how.crop} px give the {network.name} network maps of {found}x{found}, which "
        f"would be blended to the {wanted}x{wanted} that its fully connected layers take: another "
        f"network. It is made for {side} px and more.",
        f"Use {larger}--crop {side}; or ask for it: --map-side {found} for such maps, --map-side "
        f"{wanted} to blend them.",
    )


def _require_pixels(how: Preprocessing) -> None:
    """RecipeError where the paper's small initial weights would see small numbers. (Measured: the
    logits of different photographs lie 0.01 apart with pixels of 0 to 255, 0.0002 with unit
    variance; a normalisation after conv1 mends that.)"""
    largest = max(how.std)
    if largest <= 5 / 255:
        return
    raise RecipeError(
        f"init is paper, N(0, 0.01), which is made for pixels of 0 to 255 (std {1 / 255:.6f}); a "
        f"std of {largest:g} leaves them below {1 / largest:.3g}, and the network cannot tell "
        "images apart.",
        f"Use --std {' '.join([f'{1 / 255:.6f}'] * 3)}, or --init he; --recipe imagenet-2012 has "
        "all of the paper.",
    )
