"""`alexnet learning-curve` and `suggest`: what to do next."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from alexnet.commands.early import look_at_images, look_at_model
from alexnet.commands.options import Device, Images, Precision, Run
from alexnet.console import say, table, waiting
from alexnet.values import Count
from alexnet.words import shown


@dataclass(kw_only=True)
class LearningCurve:
    """Say what twice as many pictures would bring RUN, in all and of each class, with the band in
    which the truth lies in 9 of 10 cases. Takes seconds, on the features that its frozen layers
    gave; `alexnet report RUN` draws it."""

    run_directory: Run
    # A table for people, or the figures on stdout as JSON.
    format: Literal["table", "json"] = "table"
    device: Device = "auto"

    def run(self) -> None:
        look_at_model(self.run_directory)
        with waiting("loading torch"):
            from alexnet.checking.learning_curve import learning_curve
            from alexnet.scoring.learning_curve import Forecast, told

        found = learning_curve(self.run_directory, device=self.device)
        if self.format == "json":
            print(json.dumps(found, indent=2))
            return
        say(told(Forecast(**found["all"])))
        points = zip(found["sizes"], found["accuracy"], strict=True)
        measured = ", ".join(f"{share:.1%} with {size:,.0f}" for size, share in points)
        say(f"heads on parts of the images, each looked at on others, are right in {measured}")
        if found["finetuned"]:
            say("the run went on to train all of its layers; what that adds is not in this")
        say(table(["class", "images", "found now", "with twice as many", "gain"], rows(found)))


def rows(found: dict[str, Any]) -> list[list[str]]:
    """The classes, those first that gain most."""
    known = {name: one for name, one in found["classes"].items() if "gain" in one}
    lines = [
        [shown(name), f"{one['images']:,}", f"{one['now']:.0%}", f"{one['twice']:.0%}",
         "{:+.0%} ({:+.0%} to {:+.0%})".format(one["gain"], *one["gain_band"])]
        for name, one in sorted(known.items(), key=lambda item: -item[1]["gain"])
    ]  # fmt: skip
    few = [[shown(n), f"{one['images']:,}", "too few", "", ""]
           for n, one in found["classes"].items() if n not in known]  # fmt: skip
    return lines + few


@dataclass(kw_only=True)
class Suggest:
    """Say which pictures without a label to label next for RUN: such as it is unsure of, unlike
    each other, and unlike those it was trained on, none of which is suggested again.

    IMAGE may be a folder in any layout, which stands for all pictures in it. What is written is a
    contact sheet and a table, suggestions.csv.
    """

    run_directory: Run
    images: Images
    # How many pictures to suggest.
    count: Count = 20
    # The folder of the contact sheet and the table.
    out: str = "suggestions"
    device: Device = "auto"
    precision: Precision = "auto"

    def run(self) -> None:
        look_at_model(self.run_directory)
        look_at_images(self.images, "suggest")
        with waiting("loading torch"):
            from alexnet.checking.suggestions import suggest

        for one in suggest(
            self.run_directory,
            self.images,
            count=self.count,
            out=self.out,
            device=self.device,
            precision=self.precision,
        ):
            print(shown(f"{one.file}: {one.why}"))
