"""The classifier of a run directory, with torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image

from alexnet.classification.classifier import Classifier, Probabilities
from alexnet.data.images import Pixels, load_image
from alexnet.network.checkpoint import Trained
from alexnet.network.inference import average_views, evaluation_transforms, forward
from alexnet.runs.directory import RunDirectory
from alexnet.runtime import choose_device, choose_precision
from alexnet.scoring.metrics import softmax


class RunClassifier(Classifier):
    """Classifies images with the network, the classes and the preprocessing of a run."""

    def __init__(
        self,
        trained: Trained,
        *,
        device: str = "auto",
        precision: str = "auto",
        run: RunDirectory | None = None,
    ) -> None:
        self.trained, self.run = trained, run or RunDirectory("")
        self.classes, self.names = trained.classes, trained.names
        self.white = trained.preprocessing.range
        self.device = choose_device(device)
        self.dtype, _ = choose_precision(precision, self.device)
        self.model = trained.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator = torch.Generator()  # transforms want one; in evaluation nothing is random
        self.transforms = evaluation_transforms(trained.preprocessing)

    @property
    def metrics(self) -> dict[str, Any]:
        return self.run.metrics()

    def square(self, image: bytes | IO[bytes] | Image.Image | Pixels) -> Pixels:
        return load_image(image, self.trained.preprocessing.image_size, self.white)

    def probabilities(self, squares: Sequence[Pixels]) -> Probabilities:
        x = torch.from_numpy(np.stack(squares)).to(self.device)
        views = [
            forward(self.model, transform(x, self.generator), self.dtype)
            for transform in self.transforms
        ]
        return softmax(average_views(views).cpu().numpy()).astype(np.float32)


def load_run(run: str | Path, *, device: str = "auto", precision: str = "auto") -> RunClassifier:
    """The classifier of a run directory (or of its best.safetensors); arguments as `predict.load`.

    Raises:
        RunError: not a run directory, or not finished. WeightsError: its weights are damaged.
    """
    directory = RunDirectory(run)
    trained = directory.load()
    if directory.path.is_file():  # its weights
        directory = RunDirectory(directory.path.parent)
    return RunClassifier(trained, device=device, precision=precision, run=directory)
