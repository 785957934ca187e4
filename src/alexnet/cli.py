"""The commands. Each imports what it needs inside its own function, so that `--help` answers
without importing torch."""

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from alexnet.errors import AlexNetError, InputError, did_you_mean
from alexnet.recipes import BY_DATA, Recipe, default_recipe, preset

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
Data = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="DATA",
        help="digits, cifar10, tiny-imagenet, or the path of a folder, an archive, or a Store",
    ),
]


@dataclass(kw_only=True)
class Train:
    """Train a classifier on DATA, evaluate it once on the test split, and print the run directory.

    The layout of a path is recognised: class folders (CLASS/, or train/CLASS/ with val/ and test/),
        Tiny ImageNet's folder
    or zip, CIFAR-10's binary files, a Store. Every field of the recipe is a flag.
    """

    data: Data
    # The named recipe whose values are the defaults of all flags below; see `alexnet recipes`.
    # [default: suits the data]
    recipe: str = ""
    # The run directory. [default: the next free one below runs/]
    out: str = ""
    # Go on with the run in --out from its last saved state.
    resume: bool = False
    fields: Annotated[Recipe, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes] = (
        dataclasses.field(default_factory=Recipe)
    )

    def run(self) -> None:
        from alexnet.training import train

        print(train(self.data, self.fields, out=self.out, resume=self.resume))


@dataclass(kw_only=True)
class Eval:
    """Evaluate RUN on its own test split, or on other DATA whose classes have the same names."""

    run_directory: Run
    data: Data = ""
    # The split to evaluate; auto: the test split if there is one.
    split: Literal["auto", "train", "val", "test", "all"] = "auto"
    # Also write logits, labels and ids to this .npz file.
    save: str = ""
    # Print the figures as JSON.
    json: bool = False
    device: Device = "auto"
    precision: Precision = "auto"
    bad_images: BadImages = "error"

    def run(self) -> None:
        from alexnet.evaluation import evaluate_run, show

        figures = evaluate_run(
            self.run_directory,
            self.data,
            split=self.split,
            device=self.device,
            precision=self.precision,
            bad_images=self.bad_images,
            save=self.save,
        )
        if self.json:
            print(json.dumps(figures, indent=2))
        else:
            show(figures)


@dataclass(kw_only=True)
class Predict:
    """Print the most probable classes of images."""

    run_directory: Run
    images: Annotated[
        list[str], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE", help="image files")
    ]
    # How many classes to print for each image.
    top: int = 5
    # Print one JSON object per image.
    json: bool = False
    device: Device = "auto"
    precision: Precision = "auto"

    def run(self) -> None:
        if not self.images:
            raise InputError("there are no images to classify.", "alexnet predict RUN IMAGE ...")
        from alexnet.predict import load

        classifier = load(self.run_directory, device=self.device, precision=self.precision)
        names = classifier.classes_
        for image, row in zip(self.images, classifier.predict_proba(self.images), strict=True):
            order = (-row).argsort()[: max(1, self.top)]
            if self.json:
                print(
                    json.dumps(
                        {
                            "image": image,
                            "top": [
                                {"class": str(names[k]), "p": round(float(row[k]), 6)}
                                for k in order
                            ],
                        }
                    )
                )
            else:
                print(f"{image}: " + ", ".join(f"{names[k]} {row[k]:.1%}" for k in order))


@dataclass(kw_only=True)
class Recipes:
    """List the named recipes, or show one: its source, command, numbers and every field."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME", help="a recipe")] = ""
    # Print the fields as JSON.
    json: bool = False

    def run(self) -> None:
        from alexnet.recipes import RECIPES

        if not self.name:
            width = max(map(len, RECIPES))
            for name, one in RECIPES.items():
                print(f"{name:<{width}}  {one.summary}")
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
class Doctor:
    """Say what this machine has: versions, device, precision, threads, cache."""

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


Command = Train | Eval | Predict | Recipes | DataFetch | DataPrepare | Doctor
COMMANDS: dict[str, Callable[..., Command]] = {
    "train": Train,
    "eval": Eval,
    "predict": Predict,
    "recipes": Recipes,
    "data fetch": DataFetch,
    "data prepare": DataPrepare,
    "doctor": Doctor,
}
ABOUT = "A folder of images in, a trained and honestly evaluated AlexNet classifier out."


def parse(arguments: list[str]) -> Command:
    """The command that the arguments describe."""
    words = " ".join(arguments[:2]) if arguments[:1] == ["data"] else "".join(arguments[:1])
    if words in COMMANDS:
        rest = arguments[len(words.split()) :]
        if words == "train":
            return parse_train(rest)
        return tyro.cli(COMMANDS[words], prog=f"alexnet {words}", args=rest)
    if words and not words.startswith("-") and not set(arguments) & {"-h", "--help"}:
        raise InputError(f"there is no command {words!r}.", did_you_mean(words, COMMANDS))
    asked: Command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="alexnet", description=ABOUT, args=["--help"]
    )
    return asked


def parse_train(arguments: list[str]) -> Train:
    """`train`, with the values of the named recipe, or else of the one that suits the data, as
    defaults of all flags.

    Which word is DATA is known for certain only afterwards; if it was another than guessed, the
    arguments are read again.
    """
    name = named_recipe(arguments)
    guess = next((word for word in arguments if word in BY_DATA), "")
    while True:
        default = Train(data=tyro.MISSING, recipe=name, fields=default_recipe(guess, name or None))
        train = tyro.cli(Train, prog="alexnet train", args=arguments, default=default)
        if name or BY_DATA.get(train.data) == BY_DATA.get(guess):
            return train
        guess = train.data


def named_recipe(arguments: list[str]) -> str:
    """The value of --recipe, looked up before the other flags are read."""
    for place, word in enumerate(arguments):
        if word == "--recipe" and place + 1 < len(arguments):
            return arguments[place + 1]
        if word.startswith("--recipe="):
            return word.removeprefix("--recipe=")
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
