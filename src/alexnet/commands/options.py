"""Flags and arguments that several commands share."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from alexnet import values
from alexnet.commands.flags import Arg
from alexnet.data.reading import Reading, addressed
from alexnet.errors import InputError

Device = Annotated[str, Arg(help="auto, cpu, cuda, cuda:N or mps")]
Precision = Annotated[values.Precision, Arg(help="auto takes bf16 where the hardware has it")]
BadImages = Annotated[
    values.BadImages,
    Arg(help="unreadable images: list them and stop, or list them and leave them out"),
]
Run = Annotated[
    str, Arg(metavar="RUN", help="a run directory, as `alexnet train` printed it", positional=True)
]
Model = Annotated[
    str, Arg(metavar="RUN", help="a run directory, or an exported .onnx file", positional=True)
]
Images = Annotated[
    list[str],
    Arg(
        metavar="IMAGE",
        help="image files and folders; a folder stands for all in it",
        positional=True,
    ),
]
Data = Annotated[
    str,
    Arg(
        metavar="DATA",
        help="digits, cifar10, tiny-imagenet, tiny-image10; or the path of a folder, an archive, "
        "a table or a Store",
        positional=True,
    ),
]


@dataclass(kw_only=True)
class LabelFlags:
    """Flags that say how the labels of DATA are found where its folders do not say them."""

    images: Annotated[
        str,
        Arg(
            metavar="DIR",
            help="the folder or archive in which the paths in a table begin [default: the folder "
            "of the table, or one in it]",
        ),
    ] = ""
    path_column: Annotated[
        str,
        Arg(
            metavar="NAME",
            help="the column of a table that holds the path of an image [default: guessed, and "
            "said]",
        ),
    ] = ""
    label_column: Annotated[
        str,
        Arg(metavar="NAME", help="the column that holds its label [default: guessed, and said]"),
    ] = ""
    split_column: Annotated[
        str, Arg(metavar="NAME", help="the column that says train, val or test")
    ] = ""

    label_pattern: Annotated[
        str,
        Arg(
            metavar="PATTERN",
            help="a regular expression that finds the label in the name of a file, such as "
            "'(?P<label>[A-Za-z_]+)_\\d+'",
        ),
    ] = ""
    group: Annotated[
        str,
        Arg(
            metavar="NAME|PATTERN",
            help="images of one group (an animal, a patient, a film) stand on one side of every "
            "split: a column of the table; or a regular expression that finds the group in paths, "
            "such as '(film\\d+)_'; burst: what one camera took within seconds; or copies: equal "
            "and nearly equal images",
        ),
    ] = ""
    labels: Annotated[
        str,
        Arg(
            metavar="CHANGES.csv",
            help="a table of changes, as `alexnet teach RUN --mend` writes it: which images are of "
            "another class than DATA says, and which are left out",
        ),
    ] = ""

    def address_of(self, data: str) -> str:
        """DATA, with what these flags say of it.

        Raises:
            InputError: they say something of DATA that is not given.
        """
        said = {field.name: getattr(self, field.name) for field in dataclasses.fields(Reading)}
        if not data:
            for name in filter(said.get, said):
                raise InputError(
                    f"--{name.replace('_', '-')} says how DATA is read, and no DATA is given.",
                    "Name the data, too; or leave the flag out.",
                )
        return addressed(data, Reading(**said))
