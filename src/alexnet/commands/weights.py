"""`alexnet weights ...`."""

from dataclasses import dataclass
from typing import Annotated

from alexnet.commands.flags import Arg

WeightsName = Annotated[str, Arg(metavar="NAME", help="imagenet-2014", positional=True)]


@dataclass(kw_only=True)
class WeightsFetch:
    """Download official weights: size and checksum are verified, an interrupted download goes on
    where it stopped; they are kept as safetensors."""

    name: WeightsName = "imagenet-2014"
    # Another address of the same file.
    url: str = ""

    def run(self) -> None:
        from alexnet.network.weights import fetch_weights

        print(fetch_weights(self.name, self.url))


@dataclass(kw_only=True)
class WeightsImport:
    """Keep the weights of a file under a name, for `--weights NAME`.

    Known are .pth (a state dict, read without running code), .safetensors, and the .npz of BVLC's
    2012 network. The network is recognised by the shapes of its layers.
    """

    file: Annotated[str, Arg(metavar="FILE", help="weights", positional=True)]
    # The name to keep them under.
    as_: Annotated[str, Arg(name="as")]

    def run(self) -> None:
        from alexnet.network.weight_names import require_importable

        require_importable(self.file, self.as_)
        from alexnet.network.weights import import_weights

        print(import_weights(self.file, self.as_))


@dataclass(kw_only=True)
class WeightsList:
    """List the weights on this machine, and the official ones that could be fetched."""

    def run(self) -> None:
        from alexnet.network.weights import listing

        rows = listing()
        width = max(len(name) for name, _ in rows)
        for name, text in rows:
            print(f"{name:<{width}}  {text}")
