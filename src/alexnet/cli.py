"""The commands. Each imports what it needs inside its own function, so that `--help` answers
without importing torch."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from alexnet.errors import AlexNetError, InputError, did_you_mean, missing_extra
from alexnet.presets import BY_DATA, default_recipe, preset, study
from alexnet.recipes import Recipe

if TYPE_CHECKING:
    from alexnet.trials import Point, Space

Device = Annotated[str, tyro.conf.arg(help="auto, cpu, cuda, cuda:N or mps")]
Precision = Annotated[
    Literal["auto", "bf16", "fp32"], tyro.conf.arg(help="auto takes bf16 where the hardware has it")
]
BadImages = Annotated[
    Literal["error", "skip"],
    tyro.conf.arg(help="unreadable images: list them and stop, or list them and leave them out"),
]
Run = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(metavar="RUN", help="a run directory, as `alexnet train` printed it"),
]
Model = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(metavar="RUN", help="a run directory, or an exported .onnx file"),
]
Images = Annotated[
    list[str],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="IMAGE", help="image files and folders; a folder stands for all in it"),
]
Data = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="DATA",
        help="digits, cifar10, tiny-imagenet, tiny-image10, or the path of a folder, an archive, "
        "or a Store",
    ),
]


@dataclass(kw_only=True)
class Train:
    """Train a classifier on DATA, evaluate it once on the test split, and print the run directory.

    The layout of a path is recognised: class folders (CLASS/, or train/CLASS/ with val/ and test/),
    Tiny ImageNet's folder or zip, CIFAR-10's binary files, a Store. Every field of the recipe is a
    flag.
    """

    data: Data
    # The named recipe whose values are the defaults of all flags below; see `alexnet recipes`.
    # [default: suits the data]
    recipe: str = ""
    # The run directory. [default: the next free one below runs/]
    out: str = ""
    # Go on with the run in --out from its last saved state.
    resume: bool = False
    # Only look for a learning rate: draw the loss against the rate into the run directory, suggest
    # one, and stop.
    find_lr: bool = False
    fields: Annotated[Recipe, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = (
        dataclasses.field(default_factory=Recipe)
    )

    def run(self) -> None:
        from alexnet.runtime import keep_memory
        from alexnet.training import train

        keep_memory()
        run = train(
            self.data, self.fields, out=self.out, resume=self.resume, only_find_lr=self.find_lr
        )
        print(run)


@dataclass(kw_only=True)
class Sweep:
    """Train many recipes on DATA, choose on validation, and say what is signal and what is noise.

    Trials that differ only in learning rate, momentum, weight decay or schedule train side by side
    on cached features. The same command goes on where an earlier one was stopped.
    """

    data: Data
    # A field and its values, such as lr=0.1,0.01, or with --random and --search tpe their range,
    # such as lr=0.001..0.1; give it once for each field. Any field of the recipe can be swept.
    grid: tyro.conf.UseAppendAction[list[str]] = dataclasses.field(default_factory=list)
    # How many seeds for each point of the grid.
    seeds: int = 1
    # So many points of the grid, drawn at random, instead of all. 0: all.
    random: int = 0
    # grid: every combination. tpe: Optuna chooses each point from what the ones before came to, and
    # gives up trials that fall behind (extra "search").
    search: Literal["grid", "tpe"] = "grid"
    # How many points --search tpe tries.
    trials: int = 50
    # A named sweep instead of --grid; see `alexnet recipes`. It brings its recipe and seeds along.
    study: str = ""
    # Refuse more trials than these.
    max_trials: int = 200
    # How many trainings at once, each in a process of its own.
    jobs: int = 1
    # Train on a Ray cluster: its address, or local (extra "ray"); --jobs says how many at once.
    ray: str = ""
    # Only list the trials, and estimate how long they will take.
    dry_run: bool = False
    # The named recipe whose values are the defaults of all flags below; see `alexnet recipes`.
    # [default: suits the data]
    recipe: str = ""
    # The sweep directory. [default: one below runs/, named after the sweep]
    out: str = ""
    fields: Annotated[Recipe, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = (
        dataclasses.field(default_factory=Recipe)
    )

    def run(self) -> None:
        for name in ("seeds", "max_trials", "jobs", "trials"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(f"{name} is {value}, expected at least 1.")
        if self.random < 0:
            raise InputError(f"random is {self.random}, expected at least 0.")
        if self.study and self.grid:
            raise InputError("--study and --grid both say what to sweep.", "Leave one out.")
        from alexnet.trials import grid_points, parse_space

        seeds = self.seeds
        space: Space | Sequence[Point]
        if self.study:
            named = study(self.study)
            seeds = max(seeds, named.seeds)
            space = named.points or grid_points({**named.grid})
        else:
            space = parse_space(self.grid)
        if self.dry_run:
            self._list_trials(space, seeds)
            return
        from alexnet.runtime import keep_memory
        from alexnet.sweep import sweep

        keep_memory()
        print(
            sweep(
                self.data,
                self.fields,
                space,
                out=self.out,
                seeds=seeds,
                random=self.random,
                search=self.search,
                trials=self.trials,
                max_trials=self.max_trials,
                jobs=self.jobs,
                ray=self.ray,
            )
        )

    def _list_trials(self, space: "Space | Sequence[Point]", seeds: int) -> None:
        from alexnet.estimates import say_what_is_planned
        from alexnet.trials import plan, points_of, stacks, told

        if self.search == "tpe":
            raise InputError(
                "--search tpe chooses each point from the ones before it, so none can be listed.",
                "Leave out --dry-run.",
            )
        points = points_of(space, self.random, self.fields.seed)
        groups = stacks(plan(self.fields, points, seeds=seeds, max_trials=self.max_trials))
        for trial in (trial for group in groups for trial in group):
            print(f"{trial.name}  {told(trial.settings)}")
        say_what_is_planned(self.data, groups, self.jobs)


@dataclass(kw_only=True)
class Eval:
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
    top: int = 5
    # Also write logits, labels and ids to this .npz file.
    save: str = ""
    # A table for people, or the figures on stdout as JSON or CSV.
    format: Literal["table", "json", "csv"] = "table"
    device: Device = "auto"
    precision: Precision = "auto"
    bad_images: BadImages = "error"

    def run(self) -> None:
        if self.top < 1:
            raise InputError(f"top is {self.top}, expected at least 1.")
        import csv

        from alexnet.evaluation import evaluate_run, show, table_rows

        figures = evaluate_run(
            self.run_directory,
            self.data,
            split=self.split,
            device=self.device,
            precision=self.precision,
            bad_images=self.bad_images,
            save=self.save,
            views=self.views,
            top=self.top,
            classes=self.classes,
        )
        if self.format == "json":
            print(json.dumps(figures, indent=2))
        elif self.format == "csv":
            csv.writer(sys.stdout, lineterminator="\n").writerows(table_rows(figures))
        else:
            show(figures)


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
    top: int = 5
    # Print one JSON object per image.
    json: bool = False
    # Print a table of comma-separated values.
    csv: bool = False
    # Write that table to this .csv file instead.
    save: str = ""
    # Write contact sheets, pages of labelled pictures, into this folder.
    sheets: str = ""
    # Copy the files into this folder, into one folder for each class.
    copy_to: str = ""
    device: Device = "auto"
    precision: Precision = "auto"

    def run(self) -> None:
        if self.top < 1:
            raise InputError(f"top is {self.top}, expected at least 1.")
        if not self.images:
            raise InputError("there are no images to classify.", "alexnet predict RUN IMAGE ...")
        if self.json and self.csv:
            raise InputError("--json and --csv are two forms of one output.", "Choose one.")
        if self.copy_to and "-" in self.images:
            raise InputError("standard input is no file to copy.", "Leave out --copy-to, or -.")
        from contextlib import ExitStack
        from pathlib import Path

        from PIL import Image

        from alexnet.console import say
        from alexnet.predict import Copies, Table, image_files, load
        from alexnet.sheets import Labelled, Sheets

        classifier = load(self.run_directory, device=self.device, precision=self.precision)
        files, bad = image_files(self.images), 0
        copies = Copies(Path(self.copy_to), classifier.names) if self.copy_to else None
        with ExitStack() as stack:
            table = sheets = None
            if self.save or self.csv:
                where = Path(self.save) if self.save else sys.stdout
                table = stack.enter_context(Table(where, classifier, self.top))
            if self.sheets:
                sheets = stack.enter_context(Sheets(Path(self.sheets)))
            quiet = bool(table or sheets or copies)
            for one in classifier.predict_files(files):
                if table:
                    table.add(one)
                if one.p is None or one.pixels is None:
                    bad += 1
                    say(f"not used: {one.reason}")
                    continue
                if copies:
                    copies.add(one.file, int(one.p.argmax()))
                if sheets:
                    name = classifier.names[int(one.p.argmax())]
                    picture = Image.fromarray(one.pixels.transpose(1, 2, 0))
                    sheets.add(Labelled(picture, f"{name} {one.p.max():.0%}"))
                if self.json or not quiet:
                    order = (-one.p).argsort()[: self.top]
                    best = [(classifier.names[k], float(one.p[k])) for k in order]
                    print(self._line(str(one.file), best))
        if self.save:
            print(self.save)
        if sheets:
            say(f"{len(sheets.pages)} contact sheets in {self.sheets}")
        if copies:
            say(f"{len(files) - bad:,} files copied into folders of {self.copy_to}")
        if bad:
            say(f"{bad} of {len(files):,} files could not be used")
        if bad == len(files):
            raise InputError("none of the files could be used.", "The reasons are above.")

    def _line(self, file: str, best: list[tuple[str, float]]) -> str:
        if self.json:
            top = [{"class": name, "p": round(p, 6)} for name, p in best]
            return json.dumps({"image": file, "top": top})
        return f"{file}: " + ", ".join(f"{name} {p:.1%}" for name, p in best)


@dataclass(kw_only=True)
class Export:
    """Write RUN as one file that classifies without this package: uint8 images of any size in,
    probabilities out, with the classes and the preprocessing inside.

    The file is verified against the run on images of its own data before it is called done. Needs
    the extra "export".
    """

    run_directory: Run
    # onnx: for onnxruntime, and for alexnet predict. pt2: for torch.export.load. web: a folder for
    # any static host, with a page that classifies in the browser of whoever opens it.
    format: Literal["onnx", "pt2", "web"] = "onnx"
    # The file, or with --format web the folder. [default: RUN/model.onnx, RUN/model.pt2, RUN/web]
    out: str = ""
    # Store the weights of the fully connected layers in 8 bits, and measure on the test split what
    # that costs.
    int8: bool = False
    # The licence of the weights, for the metadata.
    licence: str = ""
    # With --format web: where onnxruntime-web lies, as a folder or as the .tgz of `npm pack
    # onnxruntime-web`.
    runtime: str = ""

    def run(self) -> None:
        from alexnet.export import export

        print(
            export(
                self.run_directory,
                format=self.format,
                out=self.out,
                int8=self.int8,
                licence=self.licence,
                runtime=self.runtime,
            )
        )


@dataclass(kw_only=True)
class Explain:
    """Draw a picture for each IMAGE of what RUN sees in it: where (Grad-CAM, occlusion), the most
    probable classes, the nearest training images."""

    run_directory: Run
    images: Images
    # The folder of the pictures.
    out: str = "explanations"
    # How many classes to show.
    top: int = 5
    # Explain this class instead of the most probable one.
    class_: Annotated[str, tyro.conf.arg(name="class")] = ""
    # How many training images to show; 0 spares the pass over them.
    neighbours: int = 5
    device: Device = "auto"
    precision: Annotated[
        Literal["auto", "bf16", "fp32"],
        tyro.conf.arg(help="of the pass over the training images; all else is computed in fp32"),
    ] = "auto"

    def run(self) -> None:
        for name, value, least in (("top", self.top, 1), ("neighbours", self.neighbours, 0)):
            if value < least:
                raise InputError(f"{name} is {value}, expected at least {least}.")
        if not self.images:
            raise InputError("there are no images to explain.", "alexnet explain RUN IMAGE ...")
        from pathlib import Path

        from alexnet.panels import explain_files

        for path in explain_files(
            self.run_directory,
            self.images,
            Path(self.out).expanduser(),
            top=self.top,
            class_name=self.class_,
            neighbours=self.neighbours,
            device=self.device,
            precision=self.precision,
        ):
            print(path)


@dataclass(kw_only=True)
class Serve:
    """Serve RUNs over HTTP: one page to drop pictures on or show a webcam to, and an API for
    programs (extra "serve"). Reached from this machine only, unless --host is given.
    """

    runs: Annotated[
        list[str],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN", help="run directories or exported files"),
    ]
    # The address to listen at; 0.0.0.0 stands for all of this machine. All but its own need a
    # token.
    host: str = "127.0.0.1"
    # 0: any that is free.
    port: int = 8000
    # What clients must know. [default: made up and printed, where one is needed]
    token: str = ""
    # Further host names that the server is known by, such as one of a proxy before it.
    name: tyro.conf.UseAppendAction[list[str]] = dataclasses.field(default_factory=list)
    # Print a line for every request: who, what, status, time; never what was sent.
    log: bool = False
    device: Device = "auto"

    def run(self) -> None:
        if not self.runs:
            raise InputError("there is nothing to serve.", "alexnet serve RUN [RUN ...]")
        if not 0 <= self.port < 2**16:
            raise InputError(f"port is {self.port}, expected 0 to 65535.")
        try:
            from alexnet.serve import serve
        except ModuleNotFoundError as error:
            raise missing_extra("alexnet serve", "serve") from error
        serve(
            self.runs,
            host=self.host,
            port=self.port,
            token=self.token,
            names=self.name,
            log=self.log,
            device=self.device,
        )


@dataclass(kw_only=True)
class Webcam:
    """Draw what RUN says of each picture of a camera, a video file or a stream onto it (extra
    "webcam"). Esc stops."""

    run_directory: Run
    # The number of a camera, a video file, or the address of a stream.
    source: str = "0"
    # Also write the labelled video to this .mp4 file.
    save: str = ""
    # Show a window.
    window: bool = True
    # How many classes to show.
    top: int = 3
    device: Device = "auto"

    def run(self) -> None:
        if self.top < 1:
            raise InputError(f"top is {self.top}, expected at least 1.")
        try:
            from alexnet.webcam import webcam
        except ModuleNotFoundError as error:
            raise missing_extra("alexnet webcam", "webcam") from error
        frames = webcam(
            self.run_directory,
            self.source,
            save=self.save,
            window=self.window,
            top=self.top,
            device=self.device,
        )
        if self.save:
            print(f"{self.save}: {frames} frames")


@dataclass(kw_only=True)
class Report:
    """Write one HTML page about a run or a sweep, or one that compares several runs, and print its
    path. It needs the directories alone, no network and no data."""

    runs: Annotated[
        list[str],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="RUN",
            help="a run or a sweep directory; several runs are compared over the same images",
        ),
    ]
    # The page. [default: report.html in the directory, or comparison.html here]
    out: str = ""
    # Draw the pictures anew and look at the data of a run again, which must still be there.
    pictures: bool = False

    def run(self) -> None:
        from pathlib import Path

        from alexnet.comparison import compare
        from alexnet.report import write_report
        from alexnet.sweep_page import is_sweep, write_sweep_page

        if not self.runs:
            raise InputError("there is no run to report on.", "alexnet report RUN [RUN ...]")
        sweeps = [run for run in self.runs if is_sweep(Path(run))]
        if self.pictures:
            from alexnet.training import draw_report

            for run in self.runs:
                if run not in sweeps:
                    draw_report(run)
        if sweeps and len(self.runs) > 1:
            raise InputError(
                f"{sweeps[0]} is a sweep, and runs can be compared only with runs.",
                f"Its trials are runs: {sweeps[0]}/trials/NAME.",
            )
        if len(self.runs) > 1:
            print(compare(self.runs, self.out or "comparison.html"))
        else:
            write = write_sweep_page if sweeps else write_report
            print(write(self.runs[0], self.out or None))


@dataclass(kw_only=True)
class Recipes:
    """List the named recipes, or show one: its source, command, numbers and every field."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME", help="a recipe")] = ""
    # Print the fields as JSON.
    json: bool = False

    def run(self) -> None:
        from alexnet.presets import RECIPES, STUDIES

        if not self.name:
            width = max(map(len, [*RECIPES, *STUDIES]))
            for name, one in RECIPES.items():
                print(f"{name:<{width}}  {one.summary}")
            print("studies (alexnet sweep --study NAME)")
            for name, named in STUDIES.items():
                print(f"{name:<{width}}  {named.summary}")
            return
        one = preset(self.name)
        if self.json:
            print(json.dumps(one.recipe.to_dict(), indent=2))
            return
        for label in ("summary", "source", "command", "expected", "measured"):
            print(f"{label:<9} {getattr(one, label)}")
        print("fields")
        plain = Recipe().to_dict()
        for field, value in one.recipe.to_dict().items():
            print(f"  {field:<16} {value}{'' if value == plain[field] else '  *'}")
        print("  (* differs from the plain default)")


@dataclass(kw_only=True)
class DataFetch:
    """Download an official data set: size and checksum are verified, an interrupted download goes
    on where it stopped."""

    name: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME", help="cifar10 or tiny-imagenet")
    ]
    # Another address of the same file.
    url: str = ""

    def run(self) -> None:
        from alexnet.fetch import fetch

        print(fetch(self.name, self.url))


@dataclass(kw_only=True)
class DataPrepare:
    """Pack DATA into a Store now, verify its checksums, and print where it is and what it holds."""

    data: Data
    # Side in pixels of the stored squares.
    image_size: int = 64
    # Greyscale images: convert them to RGB, or drop them.
    greyscale: Literal["convert", "drop"] = "convert"
    bad_images: BadImages = "error"

    def run(self) -> None:
        from alexnet.datasets import open_data

        if self.image_size < 1:
            raise InputError(f"image_size is {self.image_size}, expected at least 1.")
        checked = Recipe(image_size=self.image_size)  # the same range as in training
        store = open_data(
            self.data,
            image_size=checked.image_size,
            greyscale=self.greyscale,
            bad_images=self.bad_images,
        )
        store.verify()
        print(store.path)
        keys = ("layout", "fingerprint", "shape", "splits", "greyscale", "left_out")
        print(
            json.dumps(
                {key: store.info[key] for key in keys} | {"classes": len(store.classes)}, indent=2
            )
        )


@dataclass(kw_only=True)
class DataCheck:
    """Say what is wrong with DATA before anyone trains on it: bad files, duplicates within and
    across splits, blank images, class balance, doubtful labels. Nothing is changed.

    Exit code 0: no problems; 1: problems, which are listed; 2: wrong input.
    """

    data: Data
    # Print the findings as JSON, with all examples.
    json: bool = False
    # Look for wrong labels with pretrained weights: a name, see `alexnet weights list`.
    weights: str = ""
    # Look for wrong labels with the network of a run.
    run_directory: Annotated[str, tyro.conf.arg(name="run", metavar="RUN")] = ""
    # Side in pixels of the stored squares.
    image_size: int = 64
    # Draw contact sheets of the duplicates, pair by pair, into this folder.
    sheets: str = ""
    # Exit with 1 for warnings, too.
    strict: bool = False

    def run(self) -> None:
        from alexnet.check import check_data

        check_data(
            self.data,
            image_size=Recipe(image_size=self.image_size).image_size,  # the same range
            weights=self.weights,
            run=self.run_directory,
            as_json=self.json,
            sheets=self.sheets,
            strict=self.strict,
        )


@dataclass(kw_only=True)
class DataSubset:
    """Copy some classes of DATA, and some images of each, into a new folder with train, val and
    test splits, all drawn from its training images."""

    data: Data
    out: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT", help="a folder that is made")
    ]
    # How many classes, the first in sorted order; or their names.
    classes: list[str] = dataclasses.field(default_factory=lambda: ["10"])
    # Images of each class for train/val/test.
    per_class: str = "400/50/50"
    # Draw the classes at random instead of taking the first.
    random: bool = False
    # Of everything that is drawn.
    seed: int = 0
    # tiny-image10: exactly the ten classes and splits of that data set; SRC is Tiny ImageNet.
    rule: Literal["none", "tiny-image10"] = "none"

    def run(self) -> None:
        from pathlib import Path

        from alexnet.datasets import find_data, read_source
        from alexnet.layouts import digits_source
        from alexnet.subset import select, tiny_image10, write_folder

        counts = self.per_class.split("/")
        if len(counts) != 3 or not all(one.isdecimal() for one in counts) or counts[0] == "0":
            raise InputError(
                f"per_class is {self.per_class!r}, expected three numbers for train, val and test.",
                "Example: --per-class 400/50/50",
            )
        train, val, test = map(int, counts)
        source = digits_source() if self.data == "digits" else read_source(find_data(self.data))
        if self.rule == "tiny-image10":
            part = tiny_image10(source)
        else:
            number = len(self.classes) == 1 and self.classes[0].isdecimal()
            known = {*source.classes, *source.names}
            part = select(
                source,
                classes=int(self.classes[0])
                if number and self.classes[0] not in known
                else self.classes,
                per_class=(train, val, test),
                random_classes=self.random,
                seed=self.seed,
            )
        print(write_folder(part, Path(self.out).expanduser()))


WeightsName = Annotated[
    str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME", help="imagenet-2014")
]


@dataclass(kw_only=True)
class WeightsFetch:
    """Download official weights: size and checksum are verified, an interrupted download goes on
    where it stopped; they are kept as safetensors."""

    name: WeightsName = "imagenet-2014"
    # Another address of the same file.
    url: str = ""

    def run(self) -> None:
        from alexnet.weights import fetch_weights

        print(fetch_weights(self.name, self.url))


@dataclass(kw_only=True)
class WeightsImport:
    """Keep the weights of a file under a name, for `--weights NAME`.

    Known are .pth (a state dict, read without running code), .safetensors, and the .npz of BVLC's
    2012 network. The network is recognised by the shapes of its layers.
    """

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE", help="weights")]
    # The name to keep them under.
    as_: Annotated[str, tyro.conf.arg(name="as")]

    def run(self) -> None:
        from alexnet.weights import import_weights

        print(import_weights(self.file, self.as_))


@dataclass(kw_only=True)
class WeightsList:
    """List the weights on this machine, and the official ones that could be fetched."""

    def run(self) -> None:
        from alexnet.weights import listing

        rows = listing()
        width = max(len(name) for name, _ in rows)
        for name, text in rows:
            print(f"{name:<{width}}  {text}")


@dataclass(kw_only=True)
class Doctor:
    """Say what this machine has: versions, device, precision, threads, and what the cache holds;
    any folder of it may be deleted, and is made again when it is needed."""

    def run(self) -> None:
        from alexnet.runtime import cache_folder, choose_device, choose_precision, environment

        device = choose_device("auto")
        dtype, reason = choose_precision("auto", device)
        found = environment(device, dtype, "")
        for name, version in found["versions"].items():
            print(f"{name:<13} {version}")
        for key in ("machine", "processor", "device", "threads"):
            print(f"{key:<13} {found[key]}")
        print(f"{'precision':<13} {found['precision']} ({reason})\n{'cache':<13} {cache_folder()}")
        for folder in ("downloads", "stores", "features", "weights", "checks"):
            files = [file for file in (cache_folder() / folder).rglob("*") if file.is_file()]
            size = sum(file.stat().st_size for file in files)
            print(f"  {folder:<11} {size / 2**30:.2f} GiB{'' if size else ' (nothing)'}")


Command = (
    Train
    | Sweep
    | Eval
    | Predict
    | Explain
    | Export
    | Serve
    | Webcam
    | Report
    | Recipes
    | DataFetch
    | DataPrepare
    | DataCheck
    | DataSubset
    | WeightsFetch
    | WeightsImport
    | WeightsList
    | Doctor
)
COMMANDS: dict[str, Callable[..., Command]] = {
    "train": Train,
    "sweep": Sweep,
    "eval": Eval,
    "predict": Predict,
    "explain": Explain,
    "export": Export,
    "serve": Serve,
    "webcam": Webcam,
    "report": Report,
    "recipes": Recipes,
    "data fetch": DataFetch,
    "data prepare": DataPrepare,
    "data check": DataCheck,
    "data subset": DataSubset,
    "weights fetch": WeightsFetch,
    "weights import": WeightsImport,
    "weights list": WeightsList,
    "doctor": Doctor,
}
ABOUT = "A folder of images in, a trained and honestly evaluated AlexNet classifier out."


def parse(arguments: list[str]) -> Command:
    """The command that the arguments describe."""
    two = arguments[:1] in (["data"], ["weights"])
    words = " ".join(arguments[:2]) if two else "".join(arguments[:1])
    if words in COMMANDS:
        rest = arguments[len(words.split()) :]
        if words in ("train", "sweep"):
            return parse_with_recipe(words, rest)
        return tyro.cli(COMMANDS[words], prog=f"alexnet {words}", args=rest)
    if words and not words.startswith("-") and not set(arguments) & {"-h", "--help"}:
        raise InputError(f"there is no command {words!r}.", did_you_mean(words, COMMANDS))
    asked: Command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="alexnet", description=ABOUT, args=["--help"]
    )
    return asked


def parse_with_recipe(words: str, arguments: list[str]) -> Train | Sweep:
    """`train` or `sweep`, with the values of the named recipe or study, or else of the recipe that
    suits the data, as defaults of all flags.

    Which word is DATA is known for certain only afterwards; if it was another than guessed, the
    arguments are read again.
    """
    kind: type[Train | Sweep] = Train if words == "train" else Sweep
    name = value_of("--recipe", arguments)
    named = value_of("--study", arguments) if words == "sweep" else ""
    if named:
        one = study(named)
        if name not in ("", one.recipe):
            raise InputError(
                f"the study {named} has a recipe, {one.recipe}.", "Leave out --recipe."
            )
        fields = dataclasses.replace(preset(one.recipe).recipe, **one.changes)
        default = Sweep(data=one.data, recipe=one.recipe, fields=fields)
        return tyro.cli(Sweep, prog="alexnet sweep", args=arguments, default=default)
    guess = next((word for word in arguments if word in BY_DATA), "")
    while True:
        recipe = default_recipe(guess, name or None)
        found = tyro.cli(
            kind,
            prog=f"alexnet {words}",
            args=arguments,
            default=kind(data=tyro.MISSING, recipe=name, fields=recipe),
        )
        if name or BY_DATA.get(found.data) == BY_DATA.get(guess):
            return found
        guess = found.data


def value_of(flag: str, arguments: list[str]) -> str:
    """The value of a flag, looked up before the others are read."""
    for place, word in enumerate(arguments):
        if word == flag and place + 1 < len(arguments):
            return arguments[place + 1]
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0, 1 (it failed), 2 (wrong input), 130 (stopped)."""
    try:
        parse(sys.argv[1:] if arguments is None else arguments).run()
    except AlexNetError as error:
        print(f"alexnet: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("alexnet: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `alexnet recipes | head -1`
        sys.stderr.close()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
