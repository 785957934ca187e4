"""`alexnet data ...`."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from alexnet.commands.early import look_at_data, look_at_model, look_at_recipe
from alexnet.commands.flags import Arg
from alexnet.commands.options import Data, LabelFlags
from alexnet.console import say, waiting
from alexnet.errors import CheckError, InputError
from alexnet.recipes import Open, Recipe
from alexnet.values import Between, Whole


@dataclass(kw_only=True)
class DataFetch:
    """Download an official data set, or an archive or a Store from anywhere that fsspec reads: what
    is known of it, size and checksums, is verified, and an interrupted download goes on where it
    stopped. Prints the path, which is DATA."""

    name: Annotated[
        str,
        Arg(
            metavar="NAME|ADDRESS",
            help="cifar10, tiny-imagenet, or an address such as s3://bucket/photos.zip",
            positional=True,
        ),
    ]
    # Another address of the same official file.
    url: str = ""

    def run(self) -> None:
        if "://" in self.name:
            with waiting("loading torch"):
                from alexnet.data.locations import fetch_location

            print(fetch_location(self.name))
        else:
            from alexnet.data.fetch import fetch

            print(fetch(self.name, self.url))


@dataclass(kw_only=True)
class DataPrepare(LabelFlags):
    """Pack DATA now as `alexnet train` with the same words packs it, verify the checksums, and
    print where the Store is and what it holds.

    What of the recipe packing depends on are the size, what weights were made for, --greyscale and
    --bad-images.
    """

    MOST_USED: ClassVar = frozenset(
        "recipe config weights image_size crop greyscale bad_images".split()
    )

    data: Data
    # The named recipe whose values are the defaults of all flags below; see `alexnet recipes`.
    # [default: suits the data]
    recipe: Annotated[str, Arg(metavar="NAME")] = ""
    # A run directory, to pack for its recipe; or a .toml or .json file of fields, which amend the
    # recipe. Flags amend both.
    config: Annotated[str, Arg(metavar="RUN|FILE")] = ""
    fields: Recipe = dataclasses.field(default_factory=Recipe)

    def run(self) -> None:
        look_at_recipe(self.fields)
        data = self.address_of(self.data)
        look_at_data(data, enough=1)
        with waiting("loading torch"):
            from alexnet.data.store import Store
            from alexnet.training.train import prepare

        store = Store.open(prepare(data, self.fields))
        print(store.path)
        keys = ("layout", "fingerprint", "shape", "splits", "greyscale", "left_out")
        print(
            json.dumps(
                {key: store.info[key] for key in keys} | {"classes": len(store.classes)}, indent=2
            )
        )


@dataclass(kw_only=True)
class DataCheck(LabelFlags):
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
    run_directory: Annotated[str, Arg(name="run", metavar="RUN")] = ""
    # Side in pixels of the stored squares. [default: that of the recipe that suits the data]
    image_size: Annotated[int, Between(1, 1024)] | Open = "auto"
    # Draw contact sheets of the duplicates, pair by pair, into this folder.
    sheets: str = ""
    # Exit with 1 for warnings, too.
    strict: bool = False

    def run(self) -> None:
        data = self.address_of(self.data)
        look_at_data(data, enough=1)
        if self.run_directory and not self.weights:
            look_at_model(self.run_directory)
        elif self.weights and not self.run_directory:
            look_at_recipe(Recipe(weights=self.weights))
        with waiting("loading torch"):
            from alexnet.checking.check import checked, plural, summary, tell

        store, findings = checked(
            data,
            image_size=None if self.image_size == "auto" else self.image_size,
            weights=self.weights,
            run=self.run_directory,
            sheets=self.sheets,
        )
        if self.json:
            print(json.dumps(summary(self.data, store, findings), indent=2))
        else:
            print(tell(self.data, store, findings))
            if not (self.weights or self.run_directory):
                say("labels were not looked at: --weights NAME or --run RUN finds doubtful ones")
        levels = ("problem", "warning") if self.strict else ("problem",)
        trouble = sum(one.level in levels for one in findings)
        if trouble:
            raise CheckError(
                f"{self.data} has {plural(trouble, 'problem')}.", "They are listed above."
            )


@dataclass(kw_only=True)
class DataSubset(LabelFlags):
    """Copy some classes of DATA, and some images of each, into a new folder with train, val and
    test splits, all drawn from its training images."""

    data: Data
    out: Annotated[str, Arg(metavar="OUT", help="a folder that is made", positional=True)]
    # How many classes, the first in sorted order; or their names.
    classes: list[str] = dataclasses.field(default_factory=lambda: ["10"])
    # Images of each class for train/val/test.
    per_class: str = "400/50/50"
    # Draw the classes at random instead of taking the first.
    random: bool = False
    # Of everything that is drawn.
    seed: Whole = 0
    # tiny-image10: exactly the ten classes and splits of that data set; SRC is Tiny ImageNet.
    rule: Literal["none", "tiny-image10"] = "none"

    def run(self) -> None:
        counts = self.per_class.split("/")
        if len(counts) != 3 or not all(one.isdecimal() for one in counts) or counts[0] == "0":
            raise InputError(
                f"per_class is {self.per_class!r}, expected three numbers for train, val and test.",
                "Example: --per-class 400/50/50",
            )
        data = self.address_of(self.data)
        look_at_data(data, enough=1)
        from alexnet.data.subset import subset

        train, val, test = map(int, counts)
        print(
            subset(
                data,
                self.out,
                classes=self.classes,
                per_class=(train, val, test),
                random=self.random,
                seed=self.seed,
                rule=self.rule,
            )
        )
