"""alexnet: a folder of images in, a trained and honestly evaluated classifier out.

import alexnet
run = alexnet.train("digits")
model = alexnet.load(run)
model.predict(["seven.png"])

What is public is listed in `__all__`, and described in docs/python.md.
"""

from typing import TYPE_CHECKING, Any

from alexnet.errors import AlexNetError
from alexnet.presets import RECIPES
from alexnet.recipes import Recipe

if TYPE_CHECKING:
    from alexnet.classification.classifier import Classifier
    from alexnet.classification.predict import load
    from alexnet.data.store import Batches
    from alexnet.fitting.loop import State, fit
    from alexnet.reporting.networks import describe
    from alexnet.runs.evaluation import evaluate_run as evaluate
    from alexnet.training.train import train

__version__ = "0.2.0"
__all__ = [
    "RECIPES",
    "AlexNetError",
    "Batches",
    "Classifier",
    "Recipe",
    "State",
    "describe",
    "evaluate",
    "fit",
    "load",
    "train",
]

_WHERE = {
    "train": ("alexnet.training.train", "train"),
    "evaluate": ("alexnet.runs.evaluation", "evaluate_run"),
    "describe": ("alexnet.reporting.networks", "describe"),
    "load": ("alexnet.classification.predict", "load"),
    "Classifier": ("alexnet.classification.classifier", "Classifier"),
    "fit": ("alexnet.fitting.loop", "fit"),
    "State": ("alexnet.fitting.loop", "State"),
    "Batches": ("alexnet.data.store", "Batches"),
}

# what needs torch is imported when first used; hidden from type checkers, to which every misspelt
# name would be a name of type Any
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _WHERE:
            import importlib

            module, attribute = _WHERE[name]
            return getattr(importlib.import_module(module), attribute)
        raise AttributeError(f"module 'alexnet' has no attribute {name!r}")


def __dir__() -> list[str]:  # not what of the package happens to be imported
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
