"""The classifier of an exported .onnx file, with onnxruntime alone. Imports no torch."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from alexnet.atomic import checksum, from_json
from alexnet.classification.classifier import Classifier, Probabilities
from alexnet.data.images import Pixels, open_image, square_pixels
from alexnet.errors import RecipeError, RunError, WeightsError, needs_extra, want_of_memory
from alexnet.network.description import Preprocessing, class_names
from alexnet.scoring.conformal import Calibration
from alexnet.scoring.metrics import require_finite

OUTPUTS = ("probabilities", "distance")  # the second of files that have a calibration
VERSION = 1  # of the description in the metadata
CHECKSUM = b'"crc32": "'  # in the description, before eight digits
FATAL_ONLY = 4  # onnxruntime's own words on standard error are left to its exceptions


class OnnxClassifier(Classifier):
    """Classifies images with an exported file.

    Args:
        model: the path of the file, or its content.
        device: "auto" or "cpu"; an exported file runs on the CPU here.
        precision: "auto" or "fp32".
        name: what messages call it.

    Raises:
        InputError: onnxruntime is not installed. WeightsError: no such file, damaged, or not one
        of `alexnet export`. RecipeError: another device or precision.
    """

    def __init__(
        self, model: Path | bytes, *, device: str = "auto", precision: str = "auto", name: str = ""
    ) -> None:
        for what, value, known in (
            ("device", device, ("auto", "cpu")),
            ("precision", precision, ("auto", "fp32")),
        ):
            if value not in known:
                raise RecipeError(
                    f"{what} is {value!r}, but an exported file runs on the CPU, in float32.",
                    f"Use --{what} {known[1]}, or the run itself.",
                )
        self.path = name or ("the model" if isinstance(model, bytes) else str(model))
        self.source = model if isinstance(model, bytes) else model.absolute()
        self.stamp = _stamp(model)
        content = model if isinstance(model, bytes) else _read(model, self.path)
        self.session = _session(content, self.path)
        self.about = _description(self.session, self.path)
        self.classes, self.names = self.about["classes"], self.about["names"]
        how = Preprocessing.from_dict(self.about["preprocessing"])
        self.image_size, self.white = how.image_size, how.range

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: the file itself, so that it works where there is none.

        Raises:
            WeightsError: the file is not there any more, or is another by now.
        """
        model = self.source
        if isinstance(model, Path):
            if _stamp(model) != self.stamp:
                raise WeightsError(
                    f"{self.path} has changed since it was loaded.", "Load it again."
                )
            model = model.read_bytes()
        return {"model": model, "name": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        OnnxClassifier.__init__(self, **state)

    @property
    def metrics(self) -> dict[str, Any]:
        figures = self.about.get("metrics")
        if not isinstance(figures, dict) or not figures:
            raise RunError(
                f"{self.path} holds no figures.", "Its run was not evaluated: alexnet eval RUN"
            )
        return figures

    @property
    def calibrated(self) -> bool:
        return "calibration" in self.about

    @property
    def calibration(self) -> Calibration:
        if not self.calibrated:
            raise RunError(
                f"{self.path} cannot say that it does not know: it holds no calibration.",
                "Export its run with it: alexnet export RUN --abstain",
            )
        found: Calibration = self.about["calibration"]
        return found

    def square(self, image: bytes | IO[bytes] | Image.Image | Pixels) -> Pixels:
        # what is smaller is enlarged in the graph
        return square_pixels(open_image(image), self.image_size, self.white)

    def probabilities(self, squares: Sequence[Pixels]) -> Probabilities:
        found = [
            self.run(np.stack([one.transpose(1, 2, 0) for one in alike]))
            for _, alike in itertools.groupby(squares, lambda one: one.shape)
        ]
        return np.concatenate(found)

    def examined(self, squares: Sequence[Pixels]) -> tuple[Probabilities, Probabilities]:
        found = [
            self.outputs(np.stack([one.transpose(1, 2, 0) for one in alike]), OUTPUTS)
            for _, alike in itertools.groupby(squares, lambda one: one.shape)
        ]
        p, distance = (np.concatenate(one) for one in zip(*found, strict=True))
        return p, distance

    def run(self, images: Pixels) -> Probabilities:
        """(N, K) of images (N, H, W, 3) uint8 RGB, whole and of any size: the graph scales, crops
        and normalises them."""
        return self.outputs(images, OUTPUTS[:1])[0]

    def outputs(self, images: Pixels, names: Sequence[str]) -> list[Probabilities]:
        """The same, of the outputs of these names; the first are the probabilities."""
        try:
            found = self.session.run(names, {"images": images})
        except Exception as error:  # its exceptions have no base of their own
            if want_of_memory(error):
                raise
            raise WeightsError(
                f"{self.path} cannot be computed ({_first_line(error)}).",
                "It is damaged; export the run again.",
            ) from error
        require_finite(found[0], self.path)
        return [np.asarray(one, dtype=np.float32) for one in found]


def place_of_checksum(content: bytes) -> int:
    """Where the 8 digits of the checksum stand in an exported file, in its description; 0 if it has
    none, as those of 0.1.0."""
    found = content.rfind(CHECKSUM)
    return found + len(CHECKSUM) if found >= 0 else 0


def _read(path: Path, name: str) -> bytes:
    """The content of a file: what happens to the file later does not matter."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise WeightsError(f"there is no file {name}.", "Write one: alexnet export RUN") from error
    except OSError as error:
        raise WeightsError(
            f"{name} cannot be read ({error.strerror}).", "Check its permissions."
        ) from error


def onnx_runtime() -> Any:
    """The package onnxruntime, which must not be imported in another way: from its import on it
    writes down an identifier of this machine, and reports to its makers, unless told before."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # of those Windows builds that do not look at that
    return onnxruntime


def _session(content: bytes, name: str) -> Any:
    with needs_extra("classifying with an exported file", "export"):
        onnxruntime = onnx_runtime()
    place = place_of_checksum(content)
    if place and content[place : place + 8] != checksum(content, place):
        raise _unreadable(name, "its checksum is not that of its content")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    how: dict[str, Any] = {"providers": ["CPUExecutionProvider"]}
    try:  # without falling back on the same once more, and saying so on standard output
        return onnxruntime.InferenceSession(content, options, **how, enable_fallback=0)
    except Exception as error:  # its exceptions have no base of their own
        if want_of_memory(error):
            raise
        raise _unreadable(name, _first_line(error)) from error


def _unreadable(name: str, reason: str) -> WeightsError:
    return WeightsError(
        f"{name} cannot be read as ONNX ({reason}).",
        "It is damaged, cut short or of another format; export it again.",
    )


def _description(session: Any, name: str) -> dict[str, Any]:
    try:
        about: dict[str, Any] = from_json(session.get_modelmeta().custom_metadata_map["alexnet"])
        if about["version"] != VERSION:
            raise ValueError(f"version {about['version']}, expected {VERSION}")
        lists = [class_names(about[key]) for key in ("classes", "names")]
        Preprocessing.from_dict(about["preprocessing"])
        output, *_ = session.get_outputs()
        if {len(one) for one in lists} != {output.shape[-1]}:
            raise ValueError(f"{len(lists[0])} classes, {output.shape[-1]} outputs")
        if "calibration" in about:
            about["calibration"] = Calibration.from_dict(about["calibration"])
        return about
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise WeightsError(
            f"{name} was not written by this alexnet: its description is missing or damaged "
            f"({_first_line(error)}).",
            "Export the run again: alexnet export RUN",
        ) from error


def _stamp(model: Path | bytes) -> tuple[int, int] | None:
    """Size and time of a file; None if there is none."""
    if isinstance(model, bytes) or not model.is_file():
        return None
    about = model.stat()
    return about.st_size, about.st_mtime_ns


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]
