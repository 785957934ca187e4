"""`alexnet eval`, `explain` and `report`: how good a run is, and why."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from alexnet import ranks, values
from alexnet.commands.early import look_at_classes, look_at_data, look_at_images, look_at_model
from alexnet.commands.flags import Arg
from alexnet.commands.options import BadImages, Data, Device, Images, LabelFlags, Precision, Run
from alexnet.console import say, waiting
from alexnet.errors import InputError
from alexnet.values import Count, Whole
from alexnet.words import cell

if TYPE_CHECKING:
    from alexnet.runs.evaluation import Look


@dataclass(kw_only=True)
class Eval(LabelFlags):
    """Evaluate RUN on its own test split, or on other DATA whose classes have the same names."""

    run_directory: Run
    data: Data = ""
    # The split to evaluate; auto: the test split if there is one.
    split: Literal["auto", "train", "val", "test", "all"] = "auto"
    # Only images of these classes, such as cat,dog (readable names or folder names); all classes
    # stay possible answers.
    classes: list[str] = dataclasses.field(default_factory=list)
    # Views averaged: the centre, its mirror image, the corners with theirs. 0: as trained.
    views: Literal[0, 1, 2, 10] = 0
    # Also the share of images whose class is among the best so many.
    top: Count = 5
    # Also write logits, labels and ids to this .npz file.
    save: str = ""
    # Write contact sheets of these images into this folder: captions are green where the answer is
    # right, and red, with the true class, where it is wrong.
    sheets: str = ""
    # A table for people, or the figures on stdout as JSON or CSV.
    format: Literal["table", "json", "csv"] = "table"
    device: Device = "auto"
    precision: Precision = "auto"
    bad_images: BadImages = "error"

    def run(self) -> None:
        look_at_model(self.run_directory)
        look_at_classes(self.run_directory, self.classes)
        data = self.address_of(self.data)
        if data:
            look_at_data(data, enough=1)
        import csv

        with waiting("loading torch"):
            from alexnet.runs.evaluation import evaluate_run, show, table_rows

        with self._sheets() as look:
            figures = evaluate_run(
                self.run_directory,
                data,
                split=self.split,
                device=self.device,
                precision=self.precision,
                bad_images=self.bad_images,
                save=self.save,
                views=self.views,
                top=self.top,
                classes=self.classes,
                look=look,
            )
        if self.format == "json":
            print(json.dumps(figures, indent=2))
        elif self.format == "csv":
            rows = [[cell(one) for one in row] for row in table_rows(figures)]
            csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
        else:
            show(figures)

    @contextlib.contextmanager
    def _sheets(self) -> "Iterator[Look | None]":
        """What puts each image on a contact sheet, if there are to be any."""
        if not self.sheets or not ranks.is_first():
            yield None
            return
        from PIL import Image

        from alexnet.reporting.sheets import Sheets, judged

        with Sheets(Path(self.sheets)) as sheets:
            yield lambda pixels, truth, answer, p: sheets.add(
                judged(Image.fromarray(pixels.transpose(1, 2, 0)), truth, answer, p)
            )
        say(f"{len(sheets.pages)} contact sheets in {self.sheets}")


@dataclass(kw_only=True)
class Explain:
    """Draw a picture for each IMAGE of what RUN sees in it: where (Grad-CAM, occlusion), the most
    probable classes, the nearest training images."""

    run_directory: Run
    images: Images
    # The folder of the pictures.
    out: str = "explanations"
    # How many classes to show.
    top: Count = 5
    # Explain this class instead of the most probable one.
    class_: Annotated[str, Arg(name="class")] = ""
    # How many training images to show; 0 spares the pass over them.
    neighbours: Whole = 5
    device: Device = "auto"
    precision: Annotated[
        values.Precision,
        Arg(help="of the pass over the training images; all else is computed in fp32"),
    ] = "auto"

    def run(self) -> None:
        look_at_images(self.images, "explain")
        look_at_model(self.run_directory)
        look_at_classes(self.run_directory, [self.class_] if self.class_ else [])
        with waiting("loading torch"):
            from alexnet.explaining.panels import explain_files

        for path in explain_files(
            self.run_directory,
            self.images,
            self.out,
            top=self.top,
            class_name=self.class_,
            neighbours=self.neighbours,
            device=self.device,
            precision=self.precision,
        ):
            print(path)


@dataclass(kw_only=True)
class Report:
    """Write one HTML page about a run or a sweep, or one that compares several runs, and print its
    path. It needs the directories alone, no network and no data."""

    runs: Annotated[
        list[str],
        Arg(
            metavar="RUN",
            help="a run or a sweep directory; several runs are compared over the same images",
            positional=True,
        ),
    ]
    # The page. [default: report.html in the directory, or comparison.html here]
    out: str = ""
    # Draw the pictures anew and look at the data of a run again, which must still be there.
    pictures: bool = False

    def run(self) -> None:
        if not self.runs:
            raise InputError("there is no run to report on.", "alexnet report RUN [RUN ...]")
        from alexnet.sweeping.any_report import report

        print(report(self.runs, out=self.out, pictures=self.pictures))
