"""The classifier of a run directory, with torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load, save

from alexnet.classification.classifier import Classifier, Probabilities, numbers
from alexnet.data.images import Pixels, load_image
from alexnet.errors import RecipeError
from alexnet.network.checkpoint import Trained, load_weights
from alexnet.network.inference import average_views, evaluation_transforms, forward
from alexnet.network.model import AlexNet
from alexnet.runs.directory import RunDirectory
from alexnet.runtime import as_found, choose_device, choose_precision
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
        self.asked = device, precision
        self.classes, self.names = trained.classes, trained.names
        self.image_size = trained.preprocessing.image_size
        self.white = trained.preprocessing.range
        self.device = choose_device(device)
        self.dtype, _ = choose_precision(precision, self.device)
        self.model = trained.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator = torch.Generator()  # transforms want one; in evaluation nothing is random
        self.transforms = evaluation_transforms(trained.preprocessing)

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: the weights themselves, so that it works on a machine without the
        run."""
        model = self.trained.model
        tensors = {name: one.cpu().contiguous() for name, one in model.state_dict().items()}
        return {
            "architecture": model.architecture,
            "weights": save(tensors),
            "classes": self.classes,
            "names": self.names,
            "preprocessing": self.trained.preprocessing,
            "asked": self.asked,
            "run": str(self.run.path.absolute()),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        model = AlexNet(state["architecture"], len(state["classes"]), init="empty")
        load_weights(model, load(state["weights"]), "the pickle", assign=True)
        trained = Trained(model.eval(), state["classes"], state["names"], state["preprocessing"])
        device, precision = state["asked"]
        try:
            choose_device(device)
        except RecipeError:  # that of the machine it comes from
            device = "auto"
        run = RunDirectory(state["run"])
        RunClassifier.__init__(self, trained, device=device, precision=precision, run=run)

    @property
    def metrics(self) -> dict[str, Any]:
        return self.run.metrics()

    def square(self, image: bytes | IO[bytes] | Image.Image | Pixels) -> Pixels:
        return load_image(image, self.image_size, self.white)

    def probabilities(self, squares: Sequence[Pixels]) -> Probabilities:
        x = torch.from_numpy(np.stack(squares)).to(self.device)
        views = [
            forward(self.model, transform(x, self.generator), self.dtype)
            for transform in self.transforms
        ]
        return numbers(softmax(average_views(views).cpu().numpy()).astype(np.float32))


@as_found()
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
