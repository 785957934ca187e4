"""The classifier of a run directory, with torch."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load, save
from torch import nn

from alexnet.classification.classifier import BATCH, Classifier, Probabilities
from alexnet.classification.explanation import Explanation, explain_image, open_gallery
from alexnet.data.images import Pixels, load_image
from alexnet.data.objects import Picture, as_list, name_of
from alexnet.errors import RecipeError
from alexnet.fitting.loop import Epoch
from alexnet.network.checkpoint import Trained, load_weights
from alexnet.network.inference import average_views, evaluation_transforms, forward
from alexnet.network.model import AlexNet
from alexnet.recipes import Recipe
from alexnet.runs.calibration import calibrate, distances, unit
from alexnet.runs.directory import RunDirectory
from alexnet.runtime import as_found, choose_device, choose_precision
from alexnet.scoring.conformal import Calibration
from alexnet.scoring.metrics import require_finite, softmax
from alexnet.values import Whole, checked_arguments


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
        self._calibration: Calibration | None = None

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
            "calibration": self._calibration,
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
        self._calibration = state.get("calibration")  # pickles of 0.1.0 have none

    @property
    def metrics(self) -> dict[str, Any]:
        return self.run.metrics()

    @property
    def calibrated(self) -> bool:
        return self._calibration is not None or self.run.calibrated

    @property
    @as_found()
    def calibration(self) -> Calibration:
        if self._calibration is None:
            self._calibration = (
                self.run.calibration(self.model.descriptor_width)
                if self.run.calibrated
                else calibrate(self.run, self.trained, self.dtype)
            )
        return self._calibration

    @property
    def history(self) -> list[Epoch]:
        names = {field.name for field in dataclasses.fields(Epoch)}
        return [
            Epoch(**{name: one for name, one in epoch.items() if name in names})  # type: ignore[arg-type]
            for epoch in self.run.epochs()
        ]

    @property
    def recipe(self) -> Recipe:
        return self.run.settings.asked

    @property
    def network(self) -> AlexNet:
        return self.trained.model

    def features(self, images: Picture | Sequence[Picture]) -> Probabilities:
        body, last = self.model.split("all-but-last")
        centre = self.transforms[0]
        squares = self._squares(images)
        found = [
            forward(
                body,
                centre(self._batch(squares[start : start + BATCH]), self.generator),
                self.dtype,
            )
            for start in range(0, len(squares), BATCH)
        ]
        if not found:
            [layer] = [one for one in last.modules() if isinstance(one, nn.Linear)]
            return np.empty((0, layer.in_features), np.float32)
        return torch.cat(found).flatten(1).cpu().numpy()

    @as_found()
    @checked_arguments
    def explain(
        self, images: Picture | Sequence[Picture], *, class_name: str = "", neighbours: Whole = 5
    ) -> list[Explanation]:
        label = self.trained.label(class_name) if class_name else None
        gallery = open_gallery(self.trained, self.run) if neighbours else None
        pictures = as_list(images)
        squares, p = self._squares(pictures), self.predict_proba(pictures)
        return [
            explain_image(
                self.trained,
                Path(name_of(image, place)).name,
                p[place],
                squares[place],
                label,
                gallery,
                neighbours,
            )
            for place, image in enumerate(pictures)
        ]

    def _repr_html_(self) -> str:
        from alexnet.classification.notebook import run_page  # which only that needs

        return run_page(self.run) if self.run.evaluated else super()._repr_html_()

    def square(self, image: bytes | IO[bytes] | Image.Image | Pixels) -> Pixels:
        return load_image(image, self.image_size, self.white)

    def _batch(self, squares: Sequence[Pixels]) -> torch.Tensor:
        return torch.from_numpy(np.stack(squares)).to(self.device)

    def probabilities(self, squares: Sequence[Pixels]) -> Probabilities:
        return self._forward(squares)[0]

    def examined(self, squares: Sequence[Pixels]) -> tuple[Probabilities, Probabilities]:
        p, pooled = self._forward(squares)
        return p, distances(self.model.descriptor(pooled), self.calibration.memory)

    def described(self, squares: Sequence[Pixels]) -> tuple[Probabilities, Probabilities]:
        """`probabilities`, and the descriptors of the images (`AlexNet.descriptor`), each of length
        1, (N, D)."""
        p, pooled = self._forward(squares)
        return p, unit(self.model.descriptor(pooled)).cpu().numpy()

    def _forward(self, squares: Sequence[Pixels]) -> tuple[Probabilities, torch.Tensor]:
        """Probabilities (N, K), and what goes into the fully connected layers, (N, D), of the first
        view."""
        x = self._batch(squares)
        body, head = self.model.split("conv")
        pooled = [
            forward(body, transform(x, self.generator), self.dtype) for transform in self.transforms
        ]
        logits = average_views([forward(head, one, self.dtype) for one in pooled]).cpu().numpy()
        require_finite(logits, self.run)
        return softmax(logits).astype(np.float32), pooled[0]


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
