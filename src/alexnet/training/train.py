"""`train`: from a data set and a recipe to a run directory."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from alexnet import ranks
from alexnet.console import hushed, say, warn
from alexnet.data.handed import Given, given
from alexnet.data.sources import Data, Source
from alexnet.data.splits import Splits
from alexnet.data.store import Store, keyed_seed
from alexnet.errors import AlexNetError, DiskError, RecipeError
from alexnet.idle import AUGMENTATION, told, without_effect
from alexnet.network.model import AlexNet, MeanImage, Whitening
from alexnet.network.pixels import colour_axes, training_pixels, whitening
from alexnet.network.weights import carry_over
from alexnet.presets import nearest
from alexnet.recipes import Recipe
from alexnet.runs.choice import settled
from alexnet.runs.configs import Asked, asked_for
from alexnet.runs.directory import STATE, RunDirectory
from alexnet.runs.imbalance import class_weights
from alexnet.runs.inputs import Inputs
from alexnet.runs.network import require_sound
from alexnet.runs.own_data import own_data, splits_of, training_folds
from alexnet.runs.resolution import Resolution, resolve
from alexnet.runtime import as_found, make_deterministic
from alexnet.training.introduction import introduction
from alexnet.training.run import Run
from alexnet.values import checked_arguments


@checked_arguments
@as_found()
def train(
    data: Given,
    recipe: Asked = None,
    *,
    config: str | Path = "",
    out: str | Path | None = None,
    resume: bool = False,
    only_find_lr: bool = False,
    split: Literal["test", "val"] = "test",
    **fields: Any,
) -> Path:
    """Trains a classifier on `data`, evaluates it once on the test split, and returns the run
    directory.

    `alexnet.train("photos", epochs=5)` changes fields of the preset that suits the data, as
    `alexnet train photos --epochs 5` does.

    Args:
        data: "digits", "cifar10", "tiny-imagenet", or the path of a folder, an archive, a table of
            labels, or a Store; or what a program holds, as `alexnet.labelled` takes it, such as
            (images, labels). What a program holds is packed into a Store, which the run keeps as
            its data.
        recipe: the name of a preset, or None for the one that suits the data; or a whole Recipe, as
            `alexnet.recipe` makes one from a preset.
        config: a run directory, whose recipe is taken, or a .toml or .json file of fields, which
            amend the preset.
        out: the run directory; by default the next free one below runs/.
        resume: go on with the run in `out` from its last saved state; bit for bit on a CPU.
        only_find_lr: stop after the learning-rate finder, whose curve is then all the run holds.
        split: "val" leaves the test split untouched, and evaluates the validation split.
        fields: of the Recipe, which amend all that.

    Raises:
        AlexNetError: see `alexnet.errors`; whatever was saved before stays.
        Interrupted: after Ctrl-C; the state of the last step is saved.
    """
    data = given(data)
    asked = asked_for(str(data), recipe, config=config, **fields)
    return carried_out(data, asked, out=out, resume=resume, only_find_lr=only_find_lr, split=split)


@checked_arguments
@as_found()
def prepare(data: Given, recipe: Asked = None, *, config: str | Path = "", **fields: Any) -> Path:
    """Packs `data` as `train` with the same arguments packs it, so that training begins at once,
    and verifies the checksums; returns the Store's path.

    Raises:
        AlexNetError: see `alexnet.errors`.
    """
    data = given(data)
    asked, _ = settled(data, asked_for(str(data), recipe, config=config, **fields))
    store = resolve(asked).open_store(data)
    store.verify()
    return store.path


def carried_out(
    data: Data,
    asked: Recipe,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    more: bool = False,
    only_find_lr: bool = False,
    split: str = "test",
    like: RunDirectory | None = None,
) -> Path:
    """Trains, evaluates and reports; arguments as for `train`. With `more` a run goes on with more
    epochs than it was asked for; `like` is a run whose data, weights and draw of splits are to be
    the same. Of several ranks the first goes on alone when the training is over."""
    with ranks.joined(), _directory(out, resume) as (place, goes_on):
        before = RunDirectory(place) if goes_on and place else None
        old = like or (before if before and not before.just_begun else None)
        changed = nearest(asked, str(data))[1]
        began_from = old.settings.asked.weights if old else ""
        # what is looked for is the rate of a head that is trained, not solved
        asked, choice = settled(data, asked, began_from, ["lr"] if only_find_lr else [])
        if not old:
            require_sound(asked)
        draw, shards = (old.settings.draw, old.settings.shards) if old else ("content", "auto")
        run = set_up(data, asked, draw, shards)
        run.introduction += [choice] if choice else []
        idle = without_effect(run.recipe, run.inputs.store.info["splits"])
        if like:
            run.require_same_inputs(like)
        ranks.require_alike(run.facts())
        run.inputs.prepare()
        with run.opened(place, goes_on, more):
            run.introduce()
            # of crops and colours under a trained head the run says it itself, asked for or not
            said = () if run.recipe.solved else AUGMENTATION
            for line in told([name for name in changed if name not in said], idle):
                warn(line)
            if only_find_lr:
                run.find_lr()
            else:
                for _ in run.train():
                    pass
                if ranks.leave():
                    _conclude(run, data, asked, split)
    return run.directory.path


@contextlib.contextmanager
def _directory(out: str | Path | None, resume: bool) -> Iterator[tuple[str | Path, bool]]:
    """Where a run is written, and whether it goes on there: all ranks but the first have a folder
    of their own, with what is needed to go on."""
    ranks.require_named(out)
    resume = resume or (ranks.may_restart() and Path(out or "").is_dir())
    with ranks.directory_of_first(out or "", STATE if resume else ()) as place:
        yield place, resume


def _conclude(run: Run, data: Data, asked: Recipe, split: str) -> None:
    """Evaluates and reports."""
    if run.recipe.evens_out and run.recipe.freeze != "none" and not run.recipe.finetune_epochs:
        run.plain_recall = recall_without(data, asked, run)
    run.evaluate(split)
    if run.recipe.report:
        from alexnet.reporting.report import write_report  # imports matplotlib

        prepare_report(run.directory.path, run.inputs.store)
        say(f"report: {write_report(run.directory.path)}")


def recall_without(data: Data, asked: Recipe, run: Run) -> list[float | None]:
    """Of each class the share of the validation images that is found by the same training without
    class weights and balanced sampling: heads on cached features are trained in seconds."""
    plain = asked.replace(
        class_weights="none", sampling="shuffled", report=False, tensorboard=False
    )
    say("and once more without class weights and balanced sampling, to compare")
    with hushed(), tempfile.TemporaryDirectory(prefix="alexnet-") as folder:
        other = set_up(data, plain, run.recipe.draw, run.recipe.shards)
        with other.opened(Path(folder) / "plain", resume=False):
            for _ in other.train():
                pass
            other.evaluate("val")
        figures = other.directory.metrics()
    return [figures["per_class"].get(name, {}).get("top1") for name in run.inputs.store.names]


def prepare_report(run: str | Path, store: Store | None = None) -> None:
    """Makes what the report of a run shows besides figures: the state of the data and pictures. A
    part that fails is told and left out: the run is whole without it.

    Args:
        run: a finished run directory.
        store: the data of the run, where it is open already.

    Raises:
        RunError: the run is not finished. DiskError: nothing can be written.
    """
    from alexnet.checking.description import describe  # half a second that only this needs
    from alexnet.explaining.showcase import illustrate

    directory = RunDirectory(run)
    settings, split = directory.settings, directory.metrics()["split"]

    def describe_data() -> None:
        own, asked = own_data(settings, directory.load().preprocessing, store), settings.recipe
        judged = asked.folds and split == "val"
        fold = training_folds(own.store, own.splits, asked) if judged else None
        state = describe(own.store, own.splits, split, fold)
        directory.write_data_state(state)

    parts: dict[str, Callable[[], object]] = {
        "what the data looks like": describe_data,
        "pictures": lambda: illustrate(directory.path, store),
    }
    for what, make in parts.items():
        try:
            make()
        except DiskError:  # not this part's fault: the page could not be written either
            raise
        except AlexNetError as error:
            warn(f"the report is without {what}: {error.message}")


def set_up(
    data: Data, asked: Recipe, draw: str = "content", shards: int | Literal["auto"] = "auto"
) -> Run:
    """Everything a run needs before it has a directory: weights, data, splits, network. `draw` is
    the rule of the splits, `shards` what batches are cut into where that is left open."""
    resolution = resolve(asked, draw, shards)
    recipe, weights, device = resolution.recipe, resolution.weights, resolution.device
    if recipe.deterministic:
        make_deterministic(device)
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    with ranks.first_here_first("data"):
        store = resolution.open_store(data)
    resolution = resolution.over(store)
    splits = splits_of(store, resolution.recipe)
    torch.manual_seed(keyed_seed(recipe.seed))
    model = AlexNet(resolution.architecture, len(store.classes), recipe.init)
    fresh = carry_over(model, weights, store.classes) if weights else []
    if fresh and not recipe.epochs and not recipe.solved:
        raise RecipeError(
            f"epochs is 0, but {', '.join(fresh)} would start fresh.",
            "Give --epochs, or weights that know the classes of the data.",
        )
    require_two_in_a_batch(resolution, len(splits.train))
    resolution = _look_at_pixels(resolution, store, splits, model)
    counts = np.bincount(store.y[splits.train], minlength=len(store.classes))
    weights_of = class_weights(recipe.class_weights, counts, store.classes, store.names)
    resolution = dataclasses.replace(
        resolution, recipe=resolution.recipe.replace(loss_weights=weights_of)
    )
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    kept = store.path if isinstance(data, Source) else data
    run = Run(kept, Inputs(resolution, store, splits, model))
    run.introduction = introduction(run, fresh)
    return run


def require_two_in_a_batch(resolution: Resolution, images: int) -> None:
    """RecipeError where a batch of `images` training images would hold a single one, of which batch
    normalisation sees a single value. (Shards of a batch are looked at by `Batches`.)"""
    recipe = resolution.recipe
    least = images // -(-images // recipe.batch_size)
    trained = not recipe.solved and recipe.epochs > 0
    alone = recipe.freeze != "none" and not recipe.finetune_epochs
    seen = resolution.architecture.least_normalised(recipe.crop, head_alone=alone)
    if least == 1 and seen == 1 and (trained or recipe.finetune_epochs):
        raise RecipeError(
            f"batch_size is {recipe.batch_size}, and of {images:,} training images a batch would "
            "hold a single one, which batch normalisation cannot do with.",
            f"Use --batch-size {max(3, recipe.batch_size + 1)} or more.",
        )


def _look_at_pixels(
    resolution: Resolution, store: Store, splits: Splits, model: AlexNet
) -> Resolution:
    """Takes from the training images what a recipe wants of them: the mean image and the whitening
    of a new network, and the colours of the lighting. Equal images give equal bits."""
    recipe, how, fresh = resolution.recipe, resolution.preprocessing, resolution.weights is None
    patch = resolution.architecture.whitening
    if fresh and patch:
        seen = training_pixels(store, splits.train, how, patch)
        filters = whitening(seen.covariance, how.std)
        cast(Whitening, model.features.whitening).weight.copy_(filters)
    wants_mean = fresh and resolution.architecture.mean_image > 0
    if not wants_mean and not recipe.lighting:
        return resolution
    seen = training_pixels(store, splits.train, how)
    if wants_mean:
        std = torch.tensor(how.std).view(3, 1, 1)
        cast(MeanImage, model.features[0]).image.copy_(seen.mean_image / 255 / std)
    axes = colour_axes(seen.covariance) if recipe.lighting else ()
    return dataclasses.replace(resolution, recipe=recipe.replace(lighting_axes=axes))


def twin(run: Run, data: Data, asked: Recipe) -> Run:
    """A run on the same data, network and features, with another recipe for what is trained."""
    inputs = run.inputs
    resolution = resolve(asked, inputs.recipe.draw).over(inputs.store)
    seen = {name: getattr(inputs.recipe, name) for name in ("lighting_axes", "loss_weights")}
    recipe = resolution.recipe.replace(**seen)
    resolution = dataclasses.replace(resolution, recipe=recipe)
    return Run(data, dataclasses.replace(inputs, resolution=resolution))
