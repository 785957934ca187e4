"""Fields of a recipe that have no effect, because of what its other fields say: gamma under a
schedule that never looks at it, say. Standard library only."""

from collections.abc import Collection

from alexnet.recipes import Recipe

# what changes the images that are trained on
AUGMENTATION = "crop_padding crop_area jitter lighting erase".split()
# what only a head that is trained in steps has use for
OF_STEPS = (
    "epochs batch_size shards sync_norm optimizer lr momentum nesterov weight_decay decay_all "
    "schedule gamma step_size warmup loss label_smoothing dropout shuffle_window clip patience "
    "keep average".split()
)


def without_effect(recipe: Recipe, own: Collection[str] = ()) -> dict[str, str]:
    """The fields that nothing looks at, each with the reason and what would change it, for who
    types flags. Whatever values they had, the same network would come out.

    Args:
        recipe: what is left open in it is taken to have an effect.
        own: the splits that the data has itself, where that is known.
    """
    frozen, tuned = recipe.freeze != "none", recipe.finetune_epochs > 0
    found: dict[str, str] = {}

    def idle(names: Collection[str], why: str) -> None:
        found.update({name: why for name in names if name not in found})

    if recipe.solved:
        why = f"a head that is solved ({recipe.head}) takes no steps: --head trained"
        idle(["lr", "epochs"] if tuned else OF_STEPS, why)
        idle(["cached_views"] if tuned else [*AUGMENTATION, "flip", "cached_views"],
             "a head is solved on images as they are")  # fmt: skip
        if recipe.fc_layers == 1:
            idle(["init"], "all layers but the head, which is solved, are those of the weights")
    if recipe.schedule not in ("exponential", "step", "plateau"):
        idle(["gamma"], f"--schedule is {recipe.schedule}: step, plateau, exponential have it")
    if recipe.schedule not in ("step", "plateau"):
        idle(["step_size"], f"--schedule is {recipe.schedule}: step and plateau have it")
    if not frozen:
        idle(["cached_views"], "nothing is frozen, so each epoch draws its own views")
        idle(["finetune_lr"], "everything is trained from the beginning, at --lr")
    elif not tuned:
        idle(["finetune_lr", "lr_decay_below"], "only the head is trained: --finetune-epochs 10")
        if recipe.cache and recipe.cached_views <= 2:
            idle(
                AUGMENTATION,
                "the frozen layers run once, on each image and its mirror: --cached-views 8 keeps "
                "as many views, changed at random, and --no-cache draws others in every epoch",
            )
    if frozen and not recipe.cache:
        idle(["cached_views"], "--no-cache draws other views in every epoch")
    if recipe.teacher == "none":
        idle(["teacher_weight", "teacher_size"], "there is no --teacher")
    if not recipe.weight_decay:
        idle(["decay_all"], "--weight-decay is 0")
    if recipe.shards == 1:
        idle(["sync_norm"], "batches are not cut: --shards 2")
    if recipe.fc_layers == 1:
        idle(["hidden"], "the network has one fully connected layer: --fc-layers 2")
    if own and "all" not in own:
        idle(["test_size"], "the data has splits of its own")
    if "val" in own or recipe.folds:
        idle(["val_size"], "no validation split is drawn")
    if "val" in own and "all" not in own:
        idle(["split_seed"], "no split is drawn")
    return found


def told(changed: Collection[str], idle: dict[str, str]) -> list[str]:
    """Of fields that were asked for, which have no effect, in words; those alike in one line."""
    alike: dict[str, list[str]] = {}
    for name in changed:
        if name in idle:
            alike.setdefault(idle[name], []).append("--" + name.replace("_", "-"))
    return [f"{', '.join(names)}: no effect, since {why}" for why, names in alike.items()]
