"""A run -> one file that classifies without this package, verified against the run."""

import importlib.metadata
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from alexnet.atomic import checksum, output_file, replacing, write_json
from alexnet.classification.classifier import BATCH, Probabilities
from alexnet.classification.onnx_classifier import (
    VERSION,
    OnnxClassifier,
    onnx_runtime,
    place_of_checksum,
)
from alexnet.classification.run_classifier import RunClassifier, load_run
from alexnet.console import progress, say, warn
from alexnet.data.images import Pixels
from alexnet.data.store import Store
from alexnet.errors import AlexNetError, DataError, needs_extra
from alexnet.exporting import web
from alexnet.exporting.quantise import round_weights
from alexnet.network.checkpoint import Trained
from alexnet.runs.directory import RunDirectory
from alexnet.runs.own_data import own_data
from alexnet.runtime import as_found
from alexnet.scoring.metrics import Labels
from alexnet.values import checked_arguments

TOLERANCE = 1e-3  # the largest difference of a probability in float32
SAMPLES = 64  # images that a file is verified on
NOT_STATED = (
    "Not stated; ask whoever trained it. The program that wrote this file is under the MIT licence."
)
Classify = Callable[[Pixels], Probabilities]  # (N, H, W, 3) uint8 -> (N, K)


@dataclass(frozen=True)
class Split:
    """The images of a run's own data on which files are verified and measured."""

    store: Store
    rows: Labels
    name: str


@checked_arguments
@as_found()
def export(
    run: str | Path,
    *,
    format: Literal["onnx", "pt2", "web"] = "onnx",
    out: str | Path = "",
    int8: bool = False,
    abstain: bool = False,
    licence: str = "",
    runtime: str | Path = "",
) -> Path:
    """Writes a run as one file whose input is (N, H, W, 3) uint8 RGB images of any size, and whose
    output is (N, K) probabilities; returns its path.

    Args:
        run: a finished run directory.
        format: "onnx"; "pt2", for `torch.export.load`; or "web", a folder with a page that
            classifies in the browser of whoever opens it.
        out: the file or folder; empty for RUN/model.onnx, RUN/model.pt2 or RUN/web.
        int8: store the weights of fully connected layers in 8 bits, and measure on the test split
            what that costs.
        abstain: put in what the run says with that it does not know, for `predict_set`: a second
            output, `distance`, and the calibration in the metadata.
        licence: of the weights, for the metadata.
        runtime: for "web", where onnxruntime-web lies: a folder, or the .tgz of npm.

    Raises:
        RunError: not a finished run. InputError: packages are missing, or arguments that do not go
        together. AlexNetError: the file does not say what the run says; nothing is left of it.
        DataError: `int8`, and the data of the run is not there any more. RunError: `abstain`, and
        the run has no calibration, nor the data to make it.
    """
    directory = RunDirectory(run)
    target = Path(out).expanduser() if out else directory.exported(format)
    web.check_choices(format, int8, str(runtime), abstain)
    if out and format != "web":
        output_file(out, f".{format}")
    if format != "pt2":
        with needs_extra("alexnet export", "export"):  # before the work, not after it
            import onnx  # noqa: F401

            onnx_runtime()
    files = web.runtime_files(Path(runtime).expanduser()) if runtime else {}
    if format == "web":
        web.check_folder(target)
    trained = directory.load()
    about, memory = description(directory, trained, licence), None
    if abstain:
        calibration = load_run(run, device="cpu").calibration
        about["calibration"], memory = calibration.to_dict(), calibration.memory
    split = own_split(directory, trained, needed=int8)
    if int8 and split:
        about["int8"] = round_and_measure(trained, split)
    samples, whose = sample_images(split, trained.preprocessing.image_size)
    file = target / web.MODEL if format == "web" else target
    with replacing(file) as aside:
        if format == "pt2":
            classify = write_pt2(aside, trained, about)
        else:
            aside.write_bytes(onnx_bytes(trained, about, int8=int8, memory=memory))
            classify = OnnxClassifier(aside, name=file.name).run
        verify(classify, trained, samples, file.name, whose)
    if format == "web":
        write_json(target / web.ABOUT, about)
        web.write_runtime(target, files)
        web.write_page(target)
        if not (target / "runtime" / "ort.js").exists():
            warn(f"the folder has no runtime yet: --runtime. {web.HOW}")
    return target


def description(run: RunDirectory, trained: Trained, licence: str) -> dict[str, Any]:
    """What the metadata of an exported file say of it."""
    figures = run.metrics() if run.evaluated else {}
    left_out = (
        "classes",
        "names",
        "confusion",
        "per_class",
    )  # of the length of the classes, or its square
    return {
        "version": VERSION,
        "alexnet": importlib.metadata.version("alexnet"),
        "classes": trained.classes,
        "names": trained.names,
        "preprocessing": trained.preprocessing.to_dict(),
        "architecture": trained.model.architecture.to_dict(),
        "recipe": run.settings.recipe.to_dict(),
        "metrics": {key: one for key, one in figures.items() if key not in left_out},
        "licence": licence or NOT_STATED,
    }


def onnx_bytes(
    trained: Trained,
    about: dict[str, Any],
    *,
    int8: bool = False,
    memory: NDArray[np.float16] | None = None,
) -> bytes:
    """The content of an .onnx file, with a checksum in its description."""
    from alexnet.exporting.onnx_graph import whole_graph

    words = json.dumps({**about, "crc32": "0" * 8}, allow_nan=False)
    whole = whole_graph(trained.model, trained.preprocessing, words, int8=int8, memory=memory)
    content: bytes = whole.SerializeToString(deterministic=True)
    place = place_of_checksum(content)
    return content[:place] + checksum(content, place) + content[place + 8 :]


def write_pt2(path: Path, trained: Trained, about: dict[str, Any]) -> Classify:
    """Writes a program for `torch.export.load`, with the description as its extra file
    "alexnet.json"; returns what classifies with the file as it was written."""
    from alexnet.exporting.whole import exported_program

    program = exported_program(trained.model, trained.preprocessing)
    words = json.dumps(about, allow_nan=False)
    with open(path, "wb") as file:
        torch.export.save(program, file, extra_files={"alexnet.json": words})
    with open(path, "rb") as written:
        module = torch.export.load(written).module()

    def classify(images: Pixels) -> Probabilities:
        with torch.inference_mode():
            found: Probabilities = module(torch.from_numpy(images)).numpy()
        return found

    return classify


def own_split(run: RunDirectory, trained: Trained, *, needed: bool) -> Split | None:
    """The test split of a run, or what it has instead; None if its data is not there any more.

    Raises:
        DataError: it is not there, and is needed.
    """
    try:
        own = own_data(run.settings, trained.preprocessing)
        rows, name = own.split("auto")
    except DataError:
        if needed:
            raise
        return None
    return Split(own.store, rows, name)


def round_and_measure(trained: Trained, split: Split) -> dict[str, Any]:
    """Rounds the weights of the fully connected layers of a network to 8 bits, in place; returns
    what that costs on a split, for the metadata, and says it."""
    about = {"version": VERSION, "classes": trained.classes, "names": trained.names}
    about["preprocessing"] = trained.preprocessing.to_dict()
    labels = np.asarray(split.store.y)[split.rows]
    guesses = []
    for bits, int8 in ((32, False), (8, True)):
        if int8:
            round_weights(trained.model)
        classifier = OnnxClassifier(onnx_bytes(trained, about, int8=int8))
        found = []
        with progress(f"{split.name} split, weights of {bits} bits", len(split.rows)) as advance:
            for start in range(0, len(split.rows), BATCH):
                rows = split.rows[start : start + BATCH]
                pixels = np.ascontiguousarray(split.store.x[rows].transpose(0, 2, 3, 1))
                found.append(classifier.run(pixels).argmax(1))
                advance(len(rows))
        guesses.append(np.concatenate(found))
    before, after = (float((one == labels).mean()) for one in guesses)
    changed = int((guesses[0] != guesses[1]).sum())
    say(
        f"8 bits: top-1 {after:.2%} on the {split.name} split, {before:.2%} in float32; "
        f"{changed:,} of {len(labels):,} predictions changed"
    )
    return {
        "split": split.name,
        "n": len(labels),
        "top1": after,
        "top1_float32": before,
        "changed": changed,
    }


def sample_images(split: Split | None, size: int) -> tuple[list[Pixels], str]:
    """Images (H, W, 3) uint8 to verify a file on, and whose they are: every fourth as it is in the
    Store, the others stretched to other sizes; or made up."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(SAMPLES):
        sides = generator.integers(max(2, size // 2), 3 * size, 2)
        if split:
            row = split.rows[number * len(split.rows) // SAMPLES]
            image = Image.fromarray(np.asarray(split.store.x[row]).transpose(1, 2, 0))
        else:  # blobs of colour: photographs have little fine detail
            blobs = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
            image = Image.fromarray(blobs).resize((size, size), Image.Resampling.BICUBIC)
        if number % 4:
            image = image.resize((int(sides[0]), int(sides[1])), Image.Resampling.BICUBIC)
        found.append(np.array(image))
    if split:
        return found, f"images of the run's {split.name} split, as they are and stretched"
    return found, "made-up images, because the data of the run is not there any more"


def verify(
    classify: Classify, trained: Trained, samples: Sequence[Pixels], name: str, whose: str
) -> None:
    """Says how far a file is from its run.

    Raises:
        AlexNetError: too far.
    """
    reference = RunClassifier(trained, device="cpu", precision="fp32")
    differences, same = [], 0
    with progress(f"verifying {name}", len(samples)) as advance:
        for image in samples:
            found, expected = classify(image[None])[0], reference.predict_proba(image)[0]
            differences.append(np.abs(found - expected).max())
            same += int(found.argmax() == expected.argmax())
            advance(1)
    furthest = float(np.max(differences))  # not a number, if one is none
    words = (
        f"same class for {same} of {len(samples)} {whose}; probabilities differ by at most "
        f"{furthest:.1e}"
    )
    if not furthest <= TOLERANCE:
        raise AlexNetError(
            f"{name} does not say what the run says: {words}, expected {TOLERANCE:.0e}.",
            "Nothing was written. Please report it, with the recipe of the run.",
        )
    say(f"verified {name}: {words}")
