"""TensorBoard's event files of a run: what happened, for those who watch it there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alexnet.fitting.loop import Epoch, State


class EventFiles:
    """Epochs under epoch/, some of the steps under step/."""

    def __init__(self, path: Path | None, steps: int = 1, done: int | None = None) -> None:
        """Args: path: the run directory, None to write nothing; steps: in an epoch; done: epochs
        that are there already, all points after which are written again; None: nothing is."""
        self.writer: Any = None
        self.steps = steps
        if path is not None:
            from torch.utils.tensorboard import SummaryWriter

            again = None if done is None else done * steps
            self.writer = SummaryWriter(str(path), purge_step=again)

    def write(self, epoch: Epoch) -> None:
        """The figures of an epoch."""
        if self.writer is None:
            return
        names = "train_loss train_top1 val_loss val_top1 lr train_images_per_second"
        last = epoch.epoch * self.steps - 1  # its last step: what is written again is behind it
        for name in names.split():
            self.writer.add_scalar(f"epoch/{name}", getattr(epoch, name), last)
        self.writer.flush()

    def write_steps(self, epoch: Epoch, state: State, every: int) -> None:
        """Loss and rate of every so many steps of the epoch just finished."""
        if self.writer is None:
            return
        for step in range(0, len(state.rates), every):
            place = (epoch.epoch - 1) * self.steps + step
            self.writer.add_scalar("step/lr", state.rates[step], place)
            self.writer.add_scalar("step/train_loss", float(state.losses[step]), place)
        self.writer.flush()

    def write_settings(self, settings: Mapping[str, Any], val_top1: float) -> None:
        """What a sweep set, and what came of it (TensorBoard's HParams)."""
        if self.writer is None:
            return
        from torch.utils.tensorboard.summary import hparams

        plain = {
            name: value if isinstance(value, int | float | str) else str(value)
            for name, value in settings.items()
        }
        for part in hparams(plain, {"sweep/val_top1": val_top1}):
            self.writer.file_writer.add_summary(part)
        self.writer.add_scalar("sweep/val_top1", val_top1, 0)

    def __enter__(self) -> "EventFiles":
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()
