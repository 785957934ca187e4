"""Data sets that are no image files: CIFAR-10's binary version, and scikit-learn's digits."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from alexnet.data.images import Pixels
from alexnet.data.listing import Example, Examples
from alexnet.data.sources import Source
from alexnet.errors import DataError

CIFAR_NAMES = ("data_batch_", "test_batch")
CIFAR_RECORD = 1 + 3 * 32 * 32


def cifar_source(where: Path, names: Iterable[str], read: Callable[[str], bytes]) -> Source:
    """CIFAR-10's binary version.

    Args:
        where: for messages.
        names: of the files that are there.
        read: the content of one of them; one at a time is held.
    """
    classes: list[str] = []
    if "batches.meta.txt" in names:
        classes = read("batches.meta.txt").decode("ascii", "replace").split()
    if not len(classes) == len(set(classes)) == 10:
        raise DataError(
            f"{where} has no batches.meta.txt with ten class names, each its own, so it is not "
            "CIFAR-10's binary version.",
            "Fetch it: alexnet data fetch cifar10",
        )
    batches = [name for name in names if name.startswith(CIFAR_NAMES) and name.endswith(".bin")]
    batches.sort(key=lambda name: (name == "test_batch.bin", name))
    examples = Examples()
    for name in batches:
        content = read(name)
        if not content or len(content) % CIFAR_RECORD:
            raise DataError(
                f"{where}: {name} has {len(content):,} bytes, expected a multiple of "
                f"{CIFAR_RECORD:,}.",
                "It is cut short: alexnet data fetch cifar10",
            )
        for number, label in enumerate(content[::CIFAR_RECORD]):
            if label >= len(classes):
                raise DataError(
                    f"{where}: record {number} of {name} has label {label}, expected 0 to 9.",
                    "Fetch it again.",
                )
            split = "test" if name == "test_batch.bin" else "train"
            examples.append(Example(split, label, f"{name}#{number}"))

    def contents() -> Iterator[bytes | Pixels | OSError]:
        for name in batches:
            records = np.frombuffer(read(name), np.uint8).reshape(-1, CIFAR_RECORD)
            for record in records:
                yield record[1:].reshape(3, 32, 32).transpose(1, 2, 0)

    return Source("cifar-10", classes, classes, examples, contents)


def digits_source() -> Source:
    """scikit-learn's copy of the UCI handwritten digits: 1,797 images of 8x8 px, 16 grey levels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)  # (1797, 8, 8)
    classes = [str(name) for name in digits.target_names]
    order = np.argsort(digits.target, kind="stable")
    examples = Examples(
        Example("all", int(digits.target[place]), f"digits#{place}") for place in order
    )
    return Source("digits", classes, classes, examples, lambda: iter(pixels[order]))
