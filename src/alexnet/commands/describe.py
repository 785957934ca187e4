"""`alexnet describe`: what a network is made of."""

from dataclasses import dataclass
from typing import Annotated

from alexnet.atomic import output_file
from alexnet.commands.flags import Arg


@dataclass(kw_only=True)
class Describe:
    """Show a network layer by layer: output, kernel, parameters, multiplications, and the receptive
    field, which is the square of pixels that one value depends on."""

    model: Annotated[
        str,
        Arg(
            metavar="RUN|NETWORK",
            help="a run directory or a weights file, or 2012, 2014, small",
            positional=True,
        ),
    ]
    # How many classes. 0: those of RUN, or those that NETWORK was made for.
    classes: int = 0
    # px of the square that it sees. 0: likewise.
    image_size: int = 0
    # Also draw the network, as .svg or .png, or write the table, as .csv.
    out: str = ""

    def run(self) -> None:
        from alexnet.reporting.networks import DRAWN, TABLE, describe

        if self.out:
            output_file(self.out, *DRAWN, TABLE)
        found = describe(self.model, classes=self.classes, image_size=self.image_size)
        print(found)
        if self.out:
            print(found.save(self.out))
