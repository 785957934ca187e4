"""What can be said of arguments at once: before torch, which takes seconds to import."""

from collections.abc import Sequence
from pathlib import Path

from alexnet.errors import DataError, InputError, RunError
from alexnet.recipes import Recipe


def look_at_data(data: str, enough: int = 2) -> None:
    """DataError unless it is data of so many classes, as far as that is known in a blink."""
    from alexnet.data.finding import look_at

    look_at(data, enough)


def look_at_model(model: str) -> None:
    """RunError unless it is a run directory with weights, or an exported file."""
    from alexnet.runs.directory import RunDirectory

    path = Path(model).expanduser()
    if path.suffix.lower() != ".onnx":
        RunDirectory(path).require_trained()
    elif not path.is_file():
        raise RunError(f"there is no file {model}.", "Check the path.")


def look_at_classes(run: str, classes: Sequence[str]) -> None:
    """DataError unless a run knows these classes."""
    if classes:
        from alexnet.data.names import find_classes
        from alexnet.runs.directory import RunDirectory

        about = RunDirectory(run).about()
        find_classes(classes, about["classes"], about["names"])


def look_at_recipe(recipe: Recipe) -> None:
    """WeightsError, RunError unless the weights of a recipe are there; ModelError, RecipeError
    unless its network can be made, and takes images of its size."""
    from alexnet.runs.network import from_scratch, other_network, require_sound

    if recipe.weights == "auto" and other_network(recipe):
        recipe, _ = from_scratch(recipe)
    if recipe.weights != "auto":
        require_sound(recipe)


def look_at_images(images: Sequence[str], command: str) -> None:
    """DataError unless one of the files is there, at least."""
    if not images:
        raise InputError(f"there are no images to {command}.", f"alexnet {command} RUN IMAGE ...")
    from alexnet.classification.classifier import STDIN
    from alexnet.classification.predict import image_files

    files = image_files(images)
    if not any(file == STDIN or file.exists() for file in files):
        raise DataError(f"there is no file {files[0]}.", "Check the path.")
