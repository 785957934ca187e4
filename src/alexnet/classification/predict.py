"""Putting classifiers to work: load one, find the files to classify, write tables and sorted
copies. Imports torch only to load a run."""

import csv
import glob
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TextIO

import numpy as np

from alexnet.atomic import replacing, to_free_name, write_csv
from alexnet.classification.classifier import STDIN, Classifier, Prediction
from alexnet.data.images import EXTENSIONS
from alexnet.data.trees import mark_output
from alexnet.errors import DataError, InputError
from alexnet.values import Precision, checked_arguments
from alexnet.words import cell


@checked_arguments
def load(model: str | Path, *, device: str = "auto", precision: Precision = "auto") -> Classifier:
    """The classifier of a run directory (or of its best.safetensors), or of an exported .onnx file,
    which needs onnxruntime and no torch.

    Args:
        model: what `train` returned, or `alexnet export` wrote.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "bf16" or "fp32".

    Raises:
        RunError: not a run directory, or not finished. WeightsError: its weights, or the file, are
        damaged.
    """
    path = Path(model).expanduser()
    if path.suffix.lower() == ".onnx":
        from alexnet.classification.onnx_classifier import OnnxClassifier

        return OnnxClassifier(path, device=device, precision=precision)
    from alexnet.classification.run_classifier import load_run

    return load_run(path, device=device, precision=precision)


def image_files(given: Sequence[str]) -> list[Path]:
    """The files that words stand for: a folder stands for all images in it and below, in natural
    order (9 before 10); hidden ones are passed over. A pattern such as "photos/**/*.jpg" stands for
    what fits it, unless there is a file of that name; "-" for standard input.

    Raises:
        DataError: no image in a folder, or nothing that fits a pattern.
    """
    files: list[Path] = []
    for name in given:
        if name == "-":
            files.append(STDIN)
            continue
        path = Path(name).expanduser()
        if path == STDIN:  # ./-
            path = path.absolute()
        if glob.has_magic(name) and not path.exists():
            fitting = [Path(one) for one in glob.glob(str(path), recursive=True)]  # noqa: PTH207
            if not fitting:
                raise DataError(f"nothing fits the pattern {name}.", "Check the path.")
            files += sorted((one for one in fitting if not one.is_dir()), key=_natural)
            continue
        if not path.is_dir():
            files.append(path)  # whether it can be read is said of each file
            continue
        inside = [
            file
            for file in path.rglob("*")
            if file.suffix.lower() in EXTENSIONS
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        ]
        if not inside:
            raise DataError(
                f"there is no image in the folder {path}.",
                f"Known endings: {', '.join(sorted(EXTENSIONS))}.",
            )
        files += sorted(inside, key=_natural)
    return files


def _natural(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", str(path))
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]


class Table:
    """CSV with one line per file: its path, why it cannot be used, and class, readable name and
    probability of its `top` most probable classes; with `sets` how many classes are in its set,
    which are the first of these, and whether it is unlike anything seen. Into a file, which is
    written whole at the end, or line by line into a stream. Use as a context."""

    def __init__(
        self, where: Path | TextIO, classifier: Classifier, top: int, sets: bool = False
    ) -> None:
        self.where, self.classifier = where, classifier
        self.top = min(top, len(classifier.classes))
        ranks = range(1, self.top + 1)
        columns = [f"{what}_{rank}" for rank in ranks for what in ("class", "name", "p")]
        columns += ["set_size", "unlike"] if sets else []
        self.lines: list[list[str]] = []
        self.columns = 2 + len(columns)
        self._write(["image", "error", *columns])

    def add(self, one: Prediction) -> None:
        """One more line."""
        line = [str(one.file), one.reason]
        p = one.p if one.p is not None else np.zeros(0, np.float32)
        for k in (-p).argsort()[: self.top]:
            line += [self.classifier.classes[k], self.classifier.names[k], f"{p[k]:.6f}"]
        if one.found:
            line += [str(len(one.found.classes)), str(int(one.found.unlike))]
        self._write([cell(one) for one in line] + [""] * (self.columns - len(line)))

    def _write(self, line: list[str]) -> None:
        if isinstance(self.where, Path):
            self.lines.append(line)
        else:
            csv.writer(self.where, lineterminator="\n").writerow(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(self.where, Path) and error is None:
            write_csv(self.where, self.lines)


UNSURE = -1  # the label of what is not taken for one class


class Copies:
    """Copies files into one folder per class below `folder`, and what is not taken for one class
    into the folder "unsure". Nothing is ever overwritten: where a name is taken, a number is added
    to it."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folders = [folder / name for name in folder_names([*names, "unsure"])]

    def require_elsewhere(self, files: Sequence[Path]) -> None:
        """InputError where a file lies in one of the folders already: it would be there twice, or
        under another class as well."""
        folders = {folder.resolve() for folder in self.folders}
        for file in files:
            if file.resolve().parent in folders:
                raise InputError(
                    f"{file} lies where copies would be put.", "Choose another folder."
                )

    def add(self, file: Path, label: int) -> Path:
        """Copies a file to the class of that label, or UNSURE; returns the path of the copy.

        Raises:
            DiskError: it cannot be written.
        """
        folder, names = self.folders[label], list[Path]()
        mark_output(folder.parent, "alexnet predict --copy-to")
        with replacing(folder / file.name, lambda *how: names.append(to_free_name(*how))) as aside:
            shutil.copyfile(file, aside)
        return names[0]


def folder_names(names: Sequence[str]) -> list[str]:
    """Class names as names of folders on any system, no two alike, whatever the names hold."""
    found: list[str] = []
    for name in names:
        safe = re.sub(r"[^\w .,()+-]+", "_", name).strip(" .")[:60].rstrip(" .")
        # "con" and its like are devices on Windows, with any ending
        if not safe.strip("_") or re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", safe):
            safe = f"class {safe}".strip()
        different, number = safe, 1
        while different.casefold() in {one.casefold() for one in found}:
            number += 1
            different = f"{safe} {number}"
        found.append(different)
    return found
