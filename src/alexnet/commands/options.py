"""Flags and arguments that several commands share."""

from typing import Annotated, Literal

from alexnet.commands.flags import Arg

Device = Annotated[str, Arg(help="auto, cpu, cuda, cuda:N or mps")]
Precision = Annotated[
    Literal["auto", "bf16", "fp32"], Arg(help="auto takes bf16 where the hardware has it")
]
BadImages = Annotated[
    Literal["error", "skip"],
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
        help="digits, cifar10, tiny-imagenet, tiny-image10, or the path of a folder, an archive, "
        "or a Store",
        positional=True,
    ),
]
