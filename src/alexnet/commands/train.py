"""`alexnet train`, `resume` and `repeat`."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, ClassVar

from alexnet import ranks
from alexnet.commands.early import look_at_data, look_at_recipe
from alexnet.commands.flags import Arg
from alexnet.commands.options import Data, LabelFlags, Run
from alexnet.console import say, waiting
from alexnet.presets import told
from alexnet.recipes import Recipe
from alexnet.values import Count


@dataclass(kw_only=True)
class Train(LabelFlags):
    """Train a classifier on DATA, evaluate it once on the test split, and print the run directory.

    The layout of a path is recognised: class folders (CLASS/, or train/CLASS/ with val/ and test/),
    in a folder, a zip or a tar; Tiny ImageNet, CIFAR-10's binary files, a Store, a table of paths
    and labels. 'DATA/*' says that the folders of DATA are the classes. Every field of the recipe is
    a flag.
    """

    MOST_USED: ClassVar = frozenset(
        "recipe config out find_lr model weights dropout freeze finetune_epochs image_size flip "
        "bad_images views val_size test_size batch_size epochs optimizer lr weight_decay schedule "
        "label_smoothing patience device precision seed report".split()
    )

    data: Data
    # The named recipe whose values are the defaults of all flags below; see `alexnet recipes`.
    # [default: suits the data]
    recipe: Annotated[str, Arg(metavar="NAME")] = ""
    # A run directory, to train with its recipe; a sweep directory, to train its best trial again;
    # or a .toml or .json file of fields, which amend the recipe. Flags amend all of them.
    config: Annotated[str, Arg(metavar="RUN|FILE")] = ""
    # The run directory. [default: the next free one below runs/]
    out: str = ""
    # Go on with the run in --out from its last saved state, as `alexnet resume RUN` does.
    resume: bool = False
    # Only look for a learning rate: draw the loss against the rate into the run directory, suggest
    # one, and stop.
    find_lr: bool = False
    # Train with so many processes on this machine, which share each batch. (Several machines:
    # torchrun -m alexnet train; docs/scale.md.)
    nproc: Count = 1
    fields: Recipe = dataclasses.field(default_factory=Recipe)

    def run(self) -> None:
        from alexnet.runs.directory import RunDirectory, require_named

        if self.resume:
            require_named(self.out)
        elif self.out and ranks.launch() is None:  # else the first of them may be writing already
            RunDirectory(self.out).require_empty()
        if not self.resume:
            look_at_recipe(self.fields)
        data = self.address_of(self.data)
        look_at_data(data)
        if ranks.started(self.nproc):
            return
        say(f"{self.data}: {told(self.fields, self.data)}")
        with waiting("loading torch"):
            from alexnet.runtime import keep_memory
            from alexnet.training.train import train

        keep_memory()
        run = train(data, self.fields, out=self.out, resume=self.resume, only_find_lr=self.find_lr)
        print(run)


@dataclass(kw_only=True)
class Resume:
    """Go on with RUN where it was stopped, bit for bit; or with more epochs than it had, where it
    was finished.

    With more epochs the learning rate is, from here on, that of a training of so many epochs from
    the beginning: with --schedule constant, exponential, step and plateau the run becomes what it
    would have been; one-cycle and cosine, which had come down to 0, begin again with the rate that
    they have at this place of the longer training.
    """

    run_directory: Run
    # How many epochs there are to be in all. 0: as many as the run was asked for.
    epochs: int = 0
    # How many epochs of the second phase there are to be. 0: as many as the run was asked for.
    finetune_epochs: int = 0
    # Stop after this many epochs without a better validation accuracy. -1: as the run was asked.
    patience: int = -1
    # Go on with so many processes on this machine, whatever number it had before.
    nproc: Count = 1

    def run(self) -> None:
        from alexnet.runs.directory import RunDirectory

        told_now = RunDirectory(self.run_directory).settings
        if ranks.started(self.nproc):
            return
        say(f"{self.run_directory}: {told(told_now.asked, told_now.data)}")
        with waiting("loading torch"):
            from alexnet.runtime import keep_memory
            from alexnet.training.again import resume

        keep_memory()
        print(
            resume(
                self.run_directory,
                epochs=self.epochs or None,
                finetune_epochs=self.finetune_epochs or None,
                patience=None if self.patience < 0 else self.patience,
            )
        )


@dataclass(kw_only=True)
class Repeat:
    """Train RUN again from its own files, into a new run directory, and compare every bit of the
    two.

    Exit code 0: the same; 1: something differs, which is listed; 2: it cannot be repeated.
    """

    run_directory: Run
    # The new run directory. [default: the next free one below runs/]
    out: str = ""

    def run(self) -> None:
        from alexnet.runs.directory import RunDirectory

        before = RunDirectory(self.run_directory)
        before.require_trained()
        settings = before.settings
        say(f"{self.run_directory}: {told(settings.asked, settings.data)}")
        with waiting("loading torch"):
            from alexnet.runtime import keep_memory
            from alexnet.training.again import repeat

        keep_memory()
        print(repeat(self.run_directory, out=self.out))
