"""`alexnet train`."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import tyro

from alexnet.commands.options import Data
from alexnet.recipes import Recipe


@dataclass(kw_only=True)
class Train:
    """Train a classifier on DATA, evaluate it once on the test split, and print the run directory.

    The layout of a path is recognised: class folders (CLASS/, or train/CLASS/ with val/ and test/),
    in a folder, a zip or a tar; Tiny ImageNet, CIFAR-10's binary files, a Store. 'DATA/*' says that
    the folders of DATA are the classes. Every field of the recipe is a flag.
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
        from alexnet.training.train import train

        keep_memory()
        run = train(
            self.data, self.fields, out=self.out, resume=self.resume, only_find_lr=self.find_lr
        )
        print(run)
