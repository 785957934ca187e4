"""The classifier of a run directory, with torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from alexnet.classification.classifier import Classifier, Probabilities
from alexnet.data.images import Pixels, load_image
from alexnet.errors import RunError
from alexnet.network.checkpoint import Trained, load_model
from alexnet.network.inference import average_views, evaluation_transforms, forward
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
        run: Path | None = None,
    ) -> None:
        self.trained, self.run = trained, run
        self.classes, self.names = trained.classes, trained.names
        self.image_size = trained.preprocessing.image_size
        self.device = choose_device(device)
        self.dtype, _ = choose_precision(precision, self.device)
        self.model = trained.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator = torch.Generator()  # transforms want one; in evaluation nothing is random
        self.transforms = evaluation_transforms(trained.preprocessing)

    @property
    def metrics(self) -> dict[str, Any]:
        path = (self.run or Path()) / "metrics.json"
        if self.run is None or not path.exists():
            raise RunError(
                f"there is no {path}.", "Only a finished run has figures: alexnet eval RUN"
            )
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return figures

    def square(self, image: bytes | Image.Image | Pixels) -> Pixels:
        return load_image(image, self.image_size)

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
    path = Path(run).expanduser()
    return RunClassifier(
        load_model(path),
        device=device,
        precision=precision,
        run=path if path.is_dir() else path.parent,
    )
