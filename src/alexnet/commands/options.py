"""Flags and arguments that several commands share."""

from typing import Annotated, Literal

import tyro

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
