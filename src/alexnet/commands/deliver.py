"""`alexnet export`, `serve` and `webcam`: a run, put to work."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from alexnet.commands.early import look_at_model
from alexnet.commands.flags import Arg
from alexnet.commands.options import Device, Run
from alexnet.console import waiting
from alexnet.errors import InputError, needs_extra
from alexnet.values import Count, Port


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
    # Let it say that it does not know, as predict --abstain does: a second output, the distance to
    # what it was trained on, and what the validation images said.
    abstain: bool = False
    # The licence of the weights, for the metadata.
    licence: str = ""
    # With --format web: where onnxruntime-web lies, as a folder or as the .tgz of `npm pack
    # onnxruntime-web`.
    runtime: str = ""

    def run(self) -> None:
        from alexnet.exporting.web import check_choices

        check_choices(self.format, self.int8, self.runtime, self.abstain)
        look_at_model(self.run_directory)
        with waiting("loading torch"):
            from alexnet.exporting.export import export

        print(
            export(
                self.run_directory,
                format=self.format,
                out=self.out,
                int8=self.int8,
                abstain=self.abstain,
                licence=self.licence,
                runtime=self.runtime,
            )
        )


@dataclass(kw_only=True)
class ServerFlags:
    """Flags that say where a server listens, and who may ask it."""

    host: Annotated[
        str,
        Arg(
            help="the address to listen at; 0.0.0.0 stands for all of this machine. All but its "
            "own need a token"
        ),
    ] = "127.0.0.1"
    port: Annotated[Port, Arg(help="0: any that is free")] = 8000
    token: Annotated[
        str, Arg(help="what clients must know [default: made up and printed, where one is needed]")
    ] = ""
    name: Annotated[
        list[str],
        Arg(
            help="further host names that the server is known by, such as one of a proxy before it",
            again=True,
        ),
    ] = dataclasses.field(default_factory=list)
    root_path: Annotated[
        str, Arg(help="what a proxy before it puts before all paths, such as /alexnet")
    ] = ""
    behind_https: Annotated[
        bool,
        Arg(
            help="a proxy before it speaks https: cookies are for https only, and pages of http "
            "are refused"
        ),
    ] = False
    forwarded: Annotated[
        bool,
        Arg(
            help="believe the headers X-Forwarded-Prefix and X-Forwarded-Proto, which say both for "
            "each request; only where a proxy sets them, or anybody could"
        ),
    ] = False
    log: Annotated[
        bool,
        Arg(help="print a line for every request: who, what, status, time; never what was sent"),
    ] = False
    device: Device = "auto"

    def place(self) -> dict[str, Any]:
        """As arguments of `alexnet.serve`."""
        fields = {one.name: getattr(self, one.name) for one in dataclasses.fields(ServerFlags)}
        return fields | {"names": fields.pop("name")}


@dataclass(kw_only=True)
class Serve(ServerFlags):
    """Serve RUNs over HTTP: one page to drop pictures on or show a webcam to, and an API for
    programs (extra "serve"). Reached from this machine only, unless --host is given.
    """

    runs: Annotated[
        list[str], Arg(metavar="RUN", help="run directories or exported files", positional=True)
    ]

    def run(self) -> None:
        if not self.runs:
            raise InputError("there is nothing to serve.", "alexnet serve RUN [RUN ...]")
        place = self.place()
        for run in self.runs:
            look_at_model(run)
        with needs_extra("alexnet serve", "serve"):
            from alexnet.serving.serve import serve
        serve(self.runs, **place)


@dataclass(kw_only=True)
class Teach(ServerFlags):
    """Serve a page on which a classifier is taught: pictures into classes, by the camera or by
    dropping files, and the answer seconds later (extra "serve"). FOLDER becomes an ordinary folder
    of class folders, beside it lies an ordinary run. With --mend a page on which the labels of a
    run's data are mended. Reached from this machine only, unless --host is given.
    """

    folder: Annotated[
        str,
        Arg(
            metavar="FOLDER|RUN",
            help="the folder of class folders, made where there is none [default: taught]; with "
            "--mend a run directory",
            positional=True,
        ),
    ] = "taught"
    # The run directory, made anew by each learning. [default: FOLDER-run]
    out: str = ""
    # Copies of the pictures in a table that `alexnet suggest` wrote wait on the page to be sorted
    # into classes.
    from_: Annotated[str, Arg(name="from", metavar="SUGGESTIONS.csv")] = ""
    # Look at the pictures of RUN whose labels are probably wrong, one at a time, the most doubtful
    # first. What is said goes into a table of changes, for train --labels; no picture is touched.
    mend: bool = False
    # With --mend: the table, which is gone on with where it is there. [default: beside the data]
    labels: Annotated[str, Arg(metavar="CHANGES.csv")] = ""

    def run(self) -> None:
        place = self.place()
        if self.mend:
            self.mend_labels(place)
            return
        if self.labels:
            raise InputError("--labels goes with --mend.", "alexnet teach RUN --mend")
        with needs_extra("alexnet teach", "serve"), waiting("loading torch"):
            from alexnet.teaching.teach import teach
        teach(self.folder, out=self.out, suggestions=self.from_, **place)

    def mend_labels(self, place: dict[str, Any]) -> None:
        """Serves that page."""
        if self.out or self.from_:
            raise InputError(
                f"--{'out' if self.out else 'from'} goes without --mend.",
                "The table of changes: --labels",
            )
        look_at_model(self.folder)
        with needs_extra("alexnet teach", "serve"), waiting("loading torch"):
            from alexnet.teaching.mend import mend
        mend(self.folder, labels=self.labels, **place)


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
    top: Count = 3
    device: Device = "auto"

    def run(self) -> None:
        look_at_model(self.run_directory)
        with needs_extra("alexnet webcam", "webcam"):
            from alexnet.serving.webcam import webcam
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
