"""`alexnet predict`."""

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from alexnet.atomic import output_file, output_folder
from alexnet.commands.early import look_at_images, look_at_model
from alexnet.commands.flags import Arg
from alexnet.commands.options import Device, Images, Model, Precision
from alexnet.console import say, waiting, warn
from alexnet.errors import InputError
from alexnet.values import Count
from alexnet.words import shown

if TYPE_CHECKING:
    from alexnet.classification.classifier import PredictionSet


class Guess(NamedTuple):
    """A class and its probability."""

    identifier: str
    name: str  # readable
    p: float


@dataclass(kw_only=True)
class Predict:
    """Print the most probable classes of images, or write them to a file.

    A folder stands for all images in it, a pattern for what fits it, and - for the image that
    standard input holds. RUN may be an exported .onnx file. Files that cannot be used are reported
    and counted, and do not stop the others.
    """

    run_directory: Model
    images: Images
    # How many classes to print or write for each image.
    top: Count = 5
    # Print one JSON object per image: of each class its identifier (the name of its folder, or its
    # WordNet id), its readable name and its probability.
    json: bool = False
    # Print a table of comma-separated values.
    csv: bool = False
    # Let it say that it does not know: one class for each image, several, or none, of which at most
    # this share misses the true class on images like the data, and a mark on images unlike any.
    abstain: Annotated[float, Arg(metavar="SHARE")] = 0
    # Write that table to this .csv file instead.
    save: str = ""
    # Write contact sheets, pages of labelled pictures, into this folder.
    sheets: str = ""
    # Copy the files into this folder, into one folder for each class.
    copy_to: str = ""
    device: Device = "auto"
    precision: Precision = "auto"

    def run(self) -> None:
        if self.json and self.csv:
            raise InputError("--json and --csv are two forms of one output.", "Choose one.")
        if self.copy_to and "-" in self.images:
            raise InputError("standard input is no file to copy.", "Leave out --copy-to, or -.")
        if self.abstain:
            from alexnet.scoring.conformal import require_rate

            require_rate(self.abstain)
        table_file = output_file(self.save, ".csv") if self.save else None
        for folder in filter(None, (self.sheets, self.copy_to)):
            output_folder(folder)
        look_at_model(self.run_directory)
        look_at_images(self.images, "predict")
        from contextlib import ExitStack
        from pathlib import Path

        from PIL import Image

        from alexnet.classification.predict import UNSURE, Copies, Table, image_files, load
        from alexnet.reporting.sheets import Labelled, Sheets

        with waiting("loading the model"):
            classifier = load(self.run_directory, device=self.device, precision=self.precision)
        if self.abstain:
            say(classifier.calibration.told(self.abstain))
        files, bad = image_files(self.images), 0
        copies = Copies(Path(self.copy_to), classifier.names) if self.copy_to else None
        if copies:
            copies.require_elsewhere(files)
        with ExitStack() as stack:
            table = sheets = None
            if table_file or self.csv:
                where = table_file or sys.stdout
                table = stack.enter_context(Table(where, classifier, self.top, bool(self.abstain)))
            if self.sheets:
                sheets = stack.enter_context(Sheets(Path(self.sheets)))
            quiet = bool(table or sheets or copies)
            for one in classifier.predict_files(files, abstain=self.abstain):
                if table:
                    table.add(one)
                if one.p is None or one.pixels is None:
                    bad += 1
                    warn(f"not used: {one.reason}")
                    continue
                best = int(one.p.argmax())
                if copies:
                    copies.add(one.file, UNSURE if one.found and not one.found.sure else best)
                if sheets:
                    name = str(one.found) if one.found else classifier.names[best]
                    picture = Image.fromarray(one.pixels.transpose(1, 2, 0))
                    sheets.add(Labelled(picture, f"{name} {one.p.max():.0%}"))
                if self.json or not quiet:
                    guesses = [
                        Guess(classifier.classes[k], classifier.names[k], float(one.p[k]))
                        for k in (-one.p).argsort()[: self.top]
                    ]
                    print(self._line(str(one.file), guesses, one.found))
        if self.save:
            print(self.save)
        if sheets:
            say(f"{len(sheets.pages)} contact sheets in {self.sheets}")
        if copies:
            say(f"{len(files) - bad:,} files copied into folders of {self.copy_to}")
        if bad:
            warn(f"{bad} of {len(files):,} files could not be used")
        if bad == len(files):
            raise InputError("none of the files could be used.", "The reasons are above.")

    def _line(self, file: str, best: list[Guess], found: "PredictionSet | None") -> str:
        if self.json:
            top = [{"class": own, "name": name, "p": round(p, 6)} for own, name, p in best]
            unsure = {"set": found.classes, "unlike": found.unlike} if found else {}
            return json.dumps({"image": file, "top": top, **unsure})
        told = ", ".join(f"{shown(name)} {p:.1%}" for _, name, p in best)
        return shown(f"{file}: ") + (f"{found} ({told})" if found else told)
