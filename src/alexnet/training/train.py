"""`train`: from a data set and a recipe to a run directory."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from alexnet.atomic import write_json
from alexnet.console import say
from alexnet.data.datasets import make_splits, open_data
from alexnet.data.store import Store, keyed_seed
from alexnet.errors import AlexNetError, RecipeError
from alexnet.network.checkpoint import Network, load_model
from alexnet.network.description import Preprocessing, architecture
from alexnet.network.model import AlexNet, parameter_count
from alexnet.network.weights import carry_over, find_weights
from alexnet.presets import default_recipe
from alexnet.recipes import IMAGENET_MEAN, IMAGENET_STD, Recipe
from alexnet.runs.directory import read_metrics, run_settings
from alexnet.runs.evaluation import own_data
from alexnet.runs.inputs import Inputs
from alexnet.runtime import choose_device, choose_precision, make_deterministic
from alexnet.training.run import Run


def train(
    data: str | Path,
    recipe: Recipe | str | None = None,
    *,
    out: str | Path = "",
    resume: bool = False,
    only_find_lr: bool = False,
    split: str = "test",
) -> Path:
    """Trains a classifier on `data` as `recipe` says, evaluates it once on the test split, and
    returns the run directory.

    Args:
        data: "digits", "cifar10", "tiny-imagenet", or the path of a folder, an archive, or a Store.
        recipe: a Recipe, the name of a preset, or None for the preset that suits the data.
        out: the run directory; by default the next free one below runs/.
        resume: go on with the run in `out` from its last saved state; bit for bit on a CPU.
        only_find_lr: stop after the learning-rate finder, whose curve is then all the run holds.
        split: "val" leaves the test split untouched, and evaluates the validation split.

    Raises:
        AlexNetError: see `alexnet.errors`; whatever was saved before stays.
        Interrupted: after Ctrl-C; the state of the last step is saved.
    """
    if not isinstance(recipe, Recipe):
        recipe = default_recipe(str(data), recipe)
    run = set_up(data, recipe)
    run.open(Path(out) if out else None, resume)
    run.introduce()
    if only_find_lr:
        run.find_lr()
        return run.path
    for _ in run.train():
        pass
    run.evaluate(split)
    if run.recipe.report:
        say(f"report: {draw_report(run.path, run.inputs.store)}")
    return run.path


def draw_report(run: str | Path, store: Store | None = None) -> Path:
    """Writes RUN/report.html, and before it what it shows besides figures: data.json and
    illustrations.json. A part that fails is told and left out: the run is whole without it.

    Args:
        run: a finished run directory.
        store: the data of the run, where it is open already.

    Raises:
        RunError: the run is not finished.
    """
    from alexnet.checking.description import describe  # half a second that only this needs
    from alexnet.explaining.showcase import illustrate
    from alexnet.reporting.report import write_report

    path = Path(run).expanduser()
    settings, split = run_settings(path), read_metrics(path)["split"]

    def describe_data() -> None:
        data = store or own_data(path, load_model(path).preprocessing)
        keys = ("val_size", "test_size", "fraction", "seed")
        splits = make_splits(data, **{key: settings.recipe[key] for key in keys})
        write_json(path / "data.json", describe(data, splits, split))

    parts: dict[str, Callable[[], object]] = {
        "what the data looks like": describe_data,
        "pictures": lambda: illustrate(path, store),
    }
    for what, make in parts.items():
        try:
            make()
        except AlexNetError as error:
            say(f"the report is without {what}: {error.message}")
    return write_report(path)


def set_up(data: str | Path, recipe: Recipe) -> Run:
    """Everything a run needs before it has a directory: weights, data, splits, network."""
    device = choose_device(recipe.device)
    dtype, reason = choose_precision(recipe.precision, device)
    if recipe.deterministic:
        make_deterministic(device)
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    weights = find_weights(recipe.weights) if recipe.weights else None
    recipe, how = resolved(recipe, weights)
    description = architecture(
        weights.architecture if weights else recipe.model,
        conv_layers=recipe.conv_layers,
        fc_layers=recipe.fc_layers,
        hidden=recipe.hidden,
        map_side=recipe.map_side,
        width=recipe.width,
        columns=recipe.columns,
        norm=recipe.norm,
        fc_norm=recipe.fc_norm,
        pool=recipe.pool,
        activation=recipe.activation,
        dropout=recipe.dropout,
    )
    description.check_input(recipe.crop)
    store = open_store(data, recipe)
    how = dataclasses.replace(how, range=store.info.get("range", 0))
    splits = make_splits(
        store,
        val_size=recipe.val_size,
        test_size=recipe.test_size,
        fraction=recipe.fraction,
        seed=recipe.seed,
    )
    torch.manual_seed(keyed_seed(recipe.seed))
    model = AlexNet(description, len(store.classes), recipe.init)
    fresh = carry_over(model, weights, store.classes) if weights else []
    if fresh and not recipe.epochs and recipe.head == "trained":
        raise RecipeError(
            f"epochs is 0, but {', '.join(fresh)} would start fresh.",
            "Give --epochs, or weights that know the classes of the data.",
        )
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(data, Inputs(recipe, how, store, splits, model, device, dtype), weights)
    run.introduction = [
        f"{store.info['source']}: {len(splits.train):,} training, {len(splits.val):,} validation, "
        f"{len(splits.test):,} test images, {len(store.classes)} classes"
        + (f" ({splits.note})" if splits.note else ""),
        f"{description.name} network, {parameter_count(model):,} parameters, {recipe.crop} "
        f"px; {run.surroundings['device']}, "
        f"{run.surroundings['threads']} threads, {run.surroundings['precision']} ({reason})",
    ]
    if weights:
        taken = f"{', '.join(fresh)} start fresh, all others are taken" if fresh else "all taken"
        run.introduction.append(f"weights {recipe.weights}: {taken}")
        if recipe.freeze == "all-but-last" and fresh[:-1]:
            run.introduction.append(
                f"of these, {', '.join(fresh[:-1])} are frozen too, with random weights: the head "
                "sees what an untrained layer gives"
            )
        made_for = weights.preprocessing
        if (how.mean, how.std) != (made_for.mean, made_for.std):
            run.introduction.append(
                f"these weights were made for a mean of {shortly(made_for.mean)} and deviations "
                f"of {shortly(made_for.std)}; the recipe prepares images with {shortly(how.mean)} "
                f"and {shortly(how.std)}"
            )
    return run


def shortly(numbers: tuple[float, ...]) -> str:
    """Numbers with three digits."""
    return ", ".join(f"{one:.3g}" for one in numbers)


def twin(run: Run, data: str | Path, recipe: Recipe) -> Run:
    """A run on the same data, network and features, with another recipe for what is trained."""
    weights = find_weights(recipe.weights) if recipe.weights else None
    recipe, _ = resolved(recipe, weights)
    return Run(data, dataclasses.replace(run.inputs, recipe=recipe), weights)


def open_store(data: str | Path, recipe: Recipe) -> Store:
    """The Store that a resolved recipe trains on."""
    return open_data(
        data, image_size=recipe.image_size, greyscale=recipe.greyscale, bad_images=recipe.bad_images
    )


def resolved(recipe: Recipe, weights: Network | None) -> tuple[Recipe, Preprocessing]:
    """The recipe with everything filled in that it leaves to the weights, and the preprocessing
    that it comes to.

    Raises:
        RecipeError: it asks for another network than that of the weights.
    """
    usual = Preprocessing(64, 64, IMAGENET_MEAN, IMAGENET_STD)
    how = weights.preprocessing if weights else usual
    model = weights.architecture.name if weights else "small"
    if weights and recipe.model not in ("auto", model):
        raise RecipeError(
            f"model is {recipe.model}, but the weights {recipe.weights} are of the {model} "
            "network.",
            "Leave out --model: weights know their network.",
        )
    size = recipe.image_size or how.image_size
    own = recipe.image_size or recipe.border
    crop = recipe.crop or (size + 2 * recipe.border if own else how.crop)
    border = recipe.border if own else how.border
    mean, std = recipe.mean or how.mean, recipe.std or how.std
    how = Preprocessing(size, crop, mean, std, recipe.views, border)
    filled = {
        "model": model if recipe.model == "auto" else recipe.model,
        "image_size": size,
        "border": border,
        "crop": crop,
        "mean": how.mean,
        "std": how.std,
    }
    return Recipe.from_dict(recipe.to_dict() | filled), how
