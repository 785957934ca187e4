"""`train`: from a data set and a recipe to a run directory."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from alexnet import augment, evaluation
from alexnet.atomic import replacing, write_json
from alexnet.checkpoint import Preprocessing, Trained, load_model, load_weights, save_model
from alexnet.datasets import Splits, make_splits, open_data
from alexnet.errors import Interrupted, RunError, WeightsError
from alexnet.loop import Epoch, State, fit
from alexnet.model import AlexNet, architecture, parameter_count
from alexnet.optimization import learning_rate, make_loss, make_optimizer
from alexnet.recipes import Recipe, default_recipe
from alexnet.runtime import (
    choose_device,
    choose_precision,
    environment,
    make_deterministic,
    new_run_folder,
    say,
    stop_on_signal,
)
from alexnet.store import Batches, Store, keyed_seed


def train(
    data: str | Path,
    recipe: Recipe | str | None = None,
    *,
    out: str | Path = "",
    resume: bool = False,
) -> Path:
    """Trains a classifier on `data` as `recipe` says, evaluates it once on the test split, and
    returns the run directory.

    Args:
        data: "digits", "cifar10", "tiny-imagenet", or the path of a folder, an archive, or a Store.
        recipe: a Recipe, the name of a preset, or None for the preset that suits the data.
        out: the run directory; by default the next free one below runs/.
        resume: go on with the run in `out` from its last saved state; bit for bit on a CPU.

    Raises:
        AlexNetError: see `alexnet.errors`; whatever was saved before stays.
        Interrupted: after Ctrl-C; the state of the last step is saved.
    """
    if not isinstance(recipe, Recipe):
        recipe = default_recipe(str(data), recipe)
    device = choose_device(recipe.device)
    dtype, reason = choose_precision(recipe.precision, device)
    if recipe.deterministic:
        make_deterministic(device)
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    description = architecture(
        recipe.model,
        conv_layers=recipe.conv_layers,
        fc_layers=recipe.fc_layers,
        width=recipe.width,
        norm=recipe.norm,
        pool=recipe.pool,
        activation=recipe.activation,
        dropout=recipe.dropout,
    )
    description.check_input(recipe.view_size)
    start_from = load_model(recipe.weights) if recipe.weights else None
    store = open_data(
        data, image_size=recipe.image_size, greyscale=recipe.greyscale, bad_images=recipe.bad_images
    )
    splits = make_splits(
        store,
        val_size=recipe.val_size,
        test_size=recipe.test_size,
        fraction=recipe.fraction,
        seed=recipe.seed,
    )
    torch.manual_seed(keyed_seed(recipe.seed))
    model = AlexNet(description, len(store.classes), recipe.init)
    if start_from is not None:
        check_same_classes(start_from, store, recipe.weights)
        load_weights(model, start_from.model.state_dict(), recipe.weights)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(data, recipe, store, splits, model, device, dtype)
    run.open(Path(out) if out else None, resume)
    say(
        f"{store.info['source']}: {len(splits.train):,} training, {len(splits.val):,} validation, "
        f"{len(splits.test):,} test images, {len(store.classes)} classes"
        + (f" ({splits.note})" if splits.note else "")
    )
    say(
        f"{description.name} network, {parameter_count(model):,} parameters, {recipe.view_size} "
        f"px; {run.surroundings['device']}, "
        f"{run.surroundings['threads']} threads, {run.surroundings['precision']} ({reason})"
    )
    say(f"writing to {run.path}")
    run.train()
    run.evaluate()
    return run.path


def check_same_classes(trained: Trained, store: Store, where: str) -> None:
    """WeightsError unless the weights' classes are those of the data."""
    if trained.classes != store.classes:
        raise WeightsError(
            f"the weights of {where} know {len(trained.classes)} classes "
            f"({', '.join(trained.classes[:5])}, ...), the data has "
            f"{len(store.classes)} ({', '.join(store.classes[:5])}, ...).",
            "Start from weights of the same classes, or from scratch without --weights.",
        )


class Run:
    """A run directory while it is being written."""

    path: Path

    def __init__(
        self,
        data: str | Path,
        recipe: Recipe,
        store: Store,
        splits: Splits,
        model: AlexNet,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.data = str(Path(data).resolve()) if Path(data).exists() else str(data)
        self.recipe, self.store, self.splits = recipe, store, splits
        self.device, self.dtype = device, dtype
        self.surroundings = environment(device, dtype, store.fingerprint)
        self.preprocessing = Preprocessing(
            recipe.image_size, recipe.view_size, recipe.mean, recipe.std, recipe.views
        )
        average = None
        if recipe.average:
            average = AveragedModel(
                model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True
            )
        optimizer = make_optimizer(
            model,
            recipe.optimizer,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            decay_all=recipe.decay_all,
        )
        self.state = State(model, optimizer, average)

    def open(self, out: Path | None, resume: bool) -> None:
        """Makes the run directory, or takes up the one that is there."""
        if resume:
            if out is None:
                raise RunError("--resume needs to know which run.", "Name it: --out RUN")
            self._take_up(out)
            return
        name = self.data.rstrip("/").rpartition("/")[2].rpartition("\\")[2]
        self.path = new_run_folder(str(out or ""), f"{name}-{self.recipe.digest}")
        write_json(
            self.path / "recipe.json",
            {"data": self.data, "recipe": self.recipe.to_dict(), "digest": self.recipe.digest},
        )
        write_json(self.path / "environment.json", self.surroundings)

    def _take_up(self, out: Path) -> None:
        _, fields, fingerprint = evaluation.run_settings(out)
        mine = json.loads(json.dumps(self.recipe.to_dict()))
        changed = [
            f"{name}: {fields.get(name)!r} there, {value!r} now"
            for name, value in mine.items()
            if fields.get(name) != value
        ]
        if changed:
            raise RunError(
                f"{out} was trained with another recipe ({'; '.join(changed)}).",
                "Give the same recipe and flags, or start a new run (--weights RUN begins with its "
                "weights).",
            )
        if fingerprint != self.store.fingerprint:
            raise RunError(
                f"{out} was trained on other data: fingerprint {fingerprint[:12]} there, "
                f"{self.store.fingerprint[:12]} now.",
                "Restore the data, or start a new run (--weights RUN begins with its weights).",
            )
        self.path = out
        if (out / "last.safetensors").exists():
            self.state.load(out / "last.safetensors")
            say(
                f"going on with {out} after epoch {len(self.state.history)}, step {self.state.step}"
            )

    def train(self) -> None:
        """Runs `fit`, and writes down what each epoch came to."""
        recipe, state = self.recipe, self.state
        if not recipe.epochs:
            self._save_best()
            return
        train_batches, val_batches = self._training_batches(), self._batches(self.splits.val)

        def rate(progress: float, scores: Sequence[float]) -> float:
            return learning_rate(
                progress,
                scores,
                lr=recipe.lr,
                schedule=recipe.schedule,
                epochs=recipe.epochs,
                gamma=recipe.gamma,
                step_size=recipe.step_size,
                warmup=recipe.warmup,
            )

        self._write_epochs()
        with (
            stop_on_signal() as stop,
            EventFiles(self.path, recipe, state, len(train_batches)) as events,
        ):
            try:
                for epoch in fit(
                    state,
                    train_batches,
                    val_batches,
                    epochs=recipe.epochs if not self._patience_over() else 0,
                    rate=rate,
                    loss=make_loss(recipe.loss, recipe.label_smoothing),
                    dtype=self.dtype,
                    clip=recipe.clip,
                    seed=recipe.seed,
                    stop=stop,
                ):
                    if epoch.best:
                        self._save_best()
                    self._write_epochs()
                    if epoch.epoch % recipe.save_every == 0 or epoch.epoch == recipe.epochs:
                        state.save(self.path / "last.safetensors")
                    events.write(epoch, state)
                    say(epoch_line(epoch, recipe.epochs))
                    if self._patience_over():
                        say(
                            f"no better validation accuracy for {recipe.patience} epochs: stopped "
                            "early"
                        )
                        break
            except Interrupted as error:
                state.save(self.path / "last.safetensors")
                raise Interrupted(
                    f"stopped in epoch {len(state.history) + 1} after step {state.step}; "
                    "everything up to there is saved.",
                    f"Go on with the same command and --out {self.path} --resume",
                ) from error

    def _patience_over(self) -> bool:
        best = self.state.best
        return bool(
            self.recipe.patience
            and best
            and len(self.state.history) - best.epoch >= self.recipe.patience
        )

    def evaluate(self) -> None:
        """Evaluates the best weights once on the test split, or on validation where there is
        none."""
        trained = load_model(self.path)
        model = trained.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        split = "test" if len(self.splits.test) else "val"
        indices = self.splits.test if split == "test" else self.splits.val
        logits, labels = evaluation.predict_logits(
            model, self._batches(indices), self.dtype, f"evaluating {split}", self.recipe.views
        )
        figures = evaluation.metrics(logits.numpy(), labels.numpy(), self.store.names, split)
        best = self.state.best
        figures |= {
            "best_epoch": best.epoch if best else 0,
            "val_top1": best.val_top1 if best else None,
            "seconds": sum(epoch.seconds for epoch in self.state.history),
            "chose_epoch_on_it": split == "val" and bool(self.recipe.epochs),
        }
        ids = [self.store.ids[place] for place in indices]
        evaluation.save_predictions(
            self.path / "predictions.npz", logits.numpy(), labels.numpy(), ids, self.store.classes
        )
        write_json(self.path / "metrics.json", figures)
        note = (
            "These images also chose the best epoch, so the figure is a little too good."
            if figures["chose_epoch_on_it"]
            else ""
        )
        evaluation.show(figures, note)

    def _batches(self, indices: evaluation.Labels) -> Batches:
        return evaluation.evaluation_batches(self.store, indices, self.preprocessing, self.device)

    def _training_batches(self) -> Batches:
        recipe = self.recipe
        transform = augment.training_transform(
            image_size=recipe.image_size,
            crop=recipe.view_size,
            crop_padding=recipe.crop_padding,
            crop_area=recipe.crop_area,
            flip=recipe.flip,
            jitter=recipe.jitter,
            lighting=recipe.lighting,
            erase=recipe.erase,
            mean=recipe.mean,
            std=recipe.std,
        )
        return Batches(
            self.store,
            self.splits.train,
            batch_size=recipe.batch_size,
            transform=transform,
            device=self.device,
            shuffle=True,
            seed=recipe.seed,
        )

    def _save_best(self) -> None:
        save_model(
            self.path / "best.safetensors",
            Trained(
                cast(AlexNet, self.state.kept),
                self.store.classes,
                self.store.names,
                self.preprocessing,
            ),
        )

    def _write_epochs(self) -> None:
        lines = "".join(
            json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in self.state.history
        )
        with replacing(self.path / "epochs.jsonl") as aside:
            aside.write_text(lines, encoding="utf-8")


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """One epoch in one line."""
    return (
        f"epoch {epoch.epoch:>{len(str(epochs))}}/{epochs}  train loss {epoch.train_loss:.3f} "
        f"top-1 {epoch.train_top1:6.2%}  "
        f"val loss {epoch.val_loss:.3f} top-1 {epoch.val_top1:6.2%}{'*' if epoch.best else ' '}  "
        f"lr {epoch.lr:.2g}  "
        f"{epoch.seconds:.1f} s  {epoch.train_images_per_second:,.0f} images/s"
    )


class EventFiles:
    """TensorBoard's event files of a run: epochs under epoch/, every `log_every`-th step under
    step/."""

    def __init__(self, path: Path, recipe: Recipe, state: State, steps: int) -> None:
        self.writer: Any = None
        self.log_every, self.steps = recipe.log_every, steps
        if recipe.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(
                str(path), purge_step=len(state.history) * steps if state.history else None
            )

    def write(self, epoch: Epoch, state: State) -> None:
        """The epoch just finished."""
        if self.writer is None:
            return
        for name in (
            "train_loss",
            "train_top1",
            "val_loss",
            "val_top1",
            "lr",
            "train_images_per_second",
        ):
            self.writer.add_scalar(f"epoch/{name}", getattr(epoch, name), epoch.epoch * self.steps)
        for step in range(0, len(state.rates), self.log_every):
            place = (epoch.epoch - 1) * self.steps + step
            self.writer.add_scalar("step/lr", state.rates[step], place)
            self.writer.add_scalar("step/train_loss", float(state.losses[step]), place)
        self.writer.flush()

    def __enter__(self) -> "EventFiles":
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()
