"""TensorBoard's event files of a run: what happened, for those who watch it there."""

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alexnet.atomic import writing
from alexnet.errors import DiskError
from alexnet.fitting.loop import Epoch, State

FORMAT = "brain.Event:2"
_number = itertools.count()  # of the files of this process


class EventFiles:
    """Epochs under epoch/, some of the steps under step/.

    Written here and not by SummaryWriter, whose thread keeps the errors of a full disk to itself.
    Every method raises DiskError where the file cannot be written.
    """

    def __init__(self, path: Path | None, steps: int = 1, done: int | None = None) -> None:
        """Args: path: the run directory, None to write nothing; steps: in an epoch; done: epochs
        that are there already, all points after which are written again; None: nothing is."""
        self.records: Any = None
        self.steps = steps
        if path is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.event = Event
        # TensorBoard reads files in the order of their names, and there may be several in a second
        name = f"{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}.{next(_number)}"
        self.path = path / f"events.out.tfevents.{name}"
        with writing(self.path):
            path.mkdir(parents=True, exist_ok=True)
            self.records = RecordWriter(open(self.path, "wb"))
        try:
            self._write(file_version=FORMAT)
            if done is not None:  # what an earlier file has from there on does not count
                self._write(step=done * steps, session_log=SessionLog(status=SessionLog.START))
            self._flush()
        except DiskError:
            with contextlib.suppress(OSError):
                self.records.close()
            raise

    def _write(self, **fields: Any) -> None:
        with writing(self.path):
            self.records.write(self.event(wall_time=time.time(), **fields).SerializeToString())

    def _scalar(self, name: str, value: float, step: int) -> None:
        from torch.utils.tensorboard.summary import scalar

        self._write(step=step, summary=scalar(name, value))

    def _flush(self) -> None:
        with writing(self.path):
            self.records.flush()

    def write(self, epoch: Epoch) -> None:
        """The figures of an epoch."""
        if self.records is None:
            return
        names = "train_loss train_top1 val_loss val_top1 lr train_images_per_second"
        last = epoch.epoch * self.steps - 1  # its last step: what is written again is behind it
        for name in names.split():
            self._scalar(f"epoch/{name}", getattr(epoch, name), last)
        self._flush()

    def write_steps(self, epoch: Epoch, state: State, every: int) -> None:
        """Loss and rate of every so many steps of the epoch just finished."""
        if self.records is None:
            return
        losses = state.tally.losses
        for step in range(0, len(state.rates), every):
            place = (epoch.epoch - 1) * self.steps + step
            self._scalar("step/lr", state.rates[step], place)
            self._scalar("step/train_loss", float(losses[step]), place)
        self._flush()

    def write_settings(self, settings: Mapping[str, Any], val_top1: float) -> None:
        """What a sweep set, and what came of it (TensorBoard's HParams)."""
        if self.records is None:
            return
        from torch.utils.tensorboard.summary import hparams

        plain = {
            name: value if isinstance(value, int | float | str) else str(value)
            for name, value in settings.items()
        }
        for part in hparams(plain, {"sweep/val_top1": val_top1}):
            self._write(summary=part)
        self._scalar("sweep/val_top1", val_top1, 0)

    def __enter__(self) -> "EventFiles":
        return self

    def __exit__(self, *_: object) -> None:
        if self.records is not None:
            with writing(self.path):
                self.records.close()
