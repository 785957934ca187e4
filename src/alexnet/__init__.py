"""alexnet: a folder of images in, a trained and honestly evaluated classifier out.

import alexnet
run = alexnet.train("digits")
model = alexnet.load(run)
model.predict(["seven.png"])

What is public is listed in `__all__`, and described in docs/python.md.
"""

import sys
from typing import TYPE_CHECKING, Any

from alexnet.errors import AlexNetError
from alexnet.presets import RECIPES, recipe
from alexnet.recipes import Recipe

if TYPE_CHECKING:
    from alexnet.checking.check import check
    from alexnet.checking.learning_curve import learning_curve
    from alexnet.checking.suggestions import suggest
    from alexnet.classification.classifier import Classifier
    from alexnet.classification.predict import load
    from alexnet.data.fetch import fetch
    from alexnet.data.handed import labelled
    from alexnet.data.store import Batches
    from alexnet.data.subset import subset
    from alexnet.explaining.panels import explain_files as explain
    from alexnet.exporting.export import export
    from alexnet.fitting.loop import State, fit
    from alexnet.network.weights import fetch_weights, import_weights
    from alexnet.network.weights import listing as list_weights
    from alexnet.reporting.networks import describe
    from alexnet.runs.evaluation import evaluate_run as evaluate
    from alexnet.runtime import doctor
    from alexnet.serving.serve import serve
    from alexnet.serving.webcam import webcam
    from alexnet.sweeping.any_report import report
    from alexnet.sweeping.bench import bench
    from alexnet.sweeping.sweep import sweep
    from alexnet.teaching.teach import teach
    from alexnet.training.again import repeat, resume
    from alexnet.training.estimator import AlexNetClassifier
    from alexnet.training.train import prepare, train

__version__ = "0.2.0"

# each public name that is imported when it is first used, because it needs torch or is rarely
# needed: its module, and what it is called there
_WHERE = {
    "AlexNetClassifier": "training.estimator",
    "Batches": "data.store",
    "Classifier": "classification.classifier",
    "State": "fitting.loop",
    "bench": "sweeping.bench",
    "check": "checking.check",
    "describe": "reporting.networks",
    "doctor": "runtime",
    "evaluate": "runs.evaluation:evaluate_run",
    "explain": "explaining.panels:explain_files",
    "export": "exporting.export",
    "fetch": "data.fetch",
    "fetch_weights": "network.weights",
    "fit": "fitting.loop",
    "import_weights": "network.weights",
    "labelled": "data.handed",
    "learning_curve": "checking.learning_curve",
    "list_weights": "network.weights:listing",
    "load": "classification.predict",
    "prepare": "training.train",
    "repeat": "training.again",
    "report": "sweeping.any_report",
    "resume": "training.again",
    "serve": "serving.serve",
    "subset": "data.subset",
    "suggest": "checking.suggestions",
    "sweep": "sweeping.sweep",
    "teach": "teaching.teach",
    "train": "training.train",
    "webcam": "serving.webcam",
}
# names that somebody may look for here
_INSTEAD = {
    **dict.fromkeys(("predict", "predict_proba"), "alexnet.load(run).predict(images)"),
    **dict.fromkeys(("AlexNet", "Model"), "alexnet.load(run).network is the nn.Module"),
    "eval": "alexnet.evaluate(run)",
}
__all__ = [
    "RECIPES",
    "AlexNetClassifier",
    "AlexNetError",
    "Batches",
    "Classifier",
    "Recipe",
    "State",
    "bench",
    "check",
    "describe",
    "doctor",
    "evaluate",
    "explain",
    "export",
    "fetch",
    "fetch_weights",
    "fit",
    "import_weights",
    "labelled",
    "learning_curve",
    "list_weights",
    "load",
    "prepare",
    "recipe",
    "repeat",
    "report",
    "resume",
    "serve",
    "subset",
    "suggest",
    "sweep",
    "teach",
    "train",
    "webcam",
]

# hidden from type checkers, to which every misspelt name would be a name of type Any
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _WHERE:
            import importlib

            module, _, attribute = _WHERE[name].partition(":")
            try:
                found = importlib.import_module(f"alexnet.{module}")
            except ImportError as error:
                extra = {"serve": "serve", "teach": "serve", "webcam": "webcam"}.get(name)
                if extra is None:
                    raise
                raise AttributeError(
                    f"alexnet.{name} needs packages that are not installed ({error}); install "
                    f"them: python -m pip install 'alexnet[{extra}]'"
                ) from error
            return getattr(found, attribute or name)
        instead = f": {_INSTEAD[name]}" if name in _INSTEAD else ""
        raise AttributeError(
            f"module 'alexnet' has no attribute {name!r}{instead}",
            name=name,  # with which Python itself asks whether another was meant
            obj=sys.modules[__name__],
        )


def __dir__() -> list[str]:  # not what of the package happens to be imported
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
