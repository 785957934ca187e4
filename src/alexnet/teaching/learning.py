"""Learning from a folder while it is being filled: each picture goes through the frozen part of the
backbone once, when it comes; then a head is solved on these features whenever the folder has
changed and is quiet. What comes out is an ordinary run, made as `alexnet train` makes it.
"""

import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from alexnet.atomic import writing
from alexnet.classification.run_classifier import RunClassifier, load_run
from alexnet.console import hushed, warn
from alexnet.data.images import BadImage, open_image, square_pixels
from alexnet.data.reading import Reading, addressed
from alexnet.data.store import Store
from alexnet.errors import AlexNetError, DataError
from alexnet.network.frozen import FrozenPart, Remembered, evaluation_view
from alexnet.network.model import AlexNet
from alexnet.network.weights import carry_over
from alexnet.presets import recipe
from alexnet.recipes import Recipe
from alexnet.runs.choice import FOLDS, solved
from alexnet.runs.directory import RunDirectory
from alexnet.runs.resolution import resolve
from alexnet.scoring.conformal import Calibration, images_needed
from alexnet.teaching.folder import Classes, Folder
from alexnet.training.train import set_up

PAUSE = 0.1  # s between two looks at the folder
QUIET = 0.5  # s without a change, before learning begins
PIECE = 16  # pictures looked at before the folder is listed again
LEAST = 3  # pictures of a class: one to learn from, one to choose by, one to test with
RATES = (0.05, 0.1)  # of sets that may miss the true class; the first that validation is enough for
# frames of one press of the button; who has seen one has nearly seen the next
TAKE = re.compile(r"(take-[0-9a-z]+)-\d")


@dataclass(frozen=True)
class Learned:
    """What is known of the last learning."""

    classes: tuple[str, ...]
    seconds: float
    right: int = 0  # of `tested` pictures that nothing was learned from
    tested: int = 0
    interval: tuple[float, float] = (0, 1)  # of the share right, 95 %
    apart: bool = True  # whether those come from other presses of the button
    rate: float = 0  # at which it can say that it does not know; 0: it cannot


@dataclass(frozen=True)
class Status:
    """What is being done. `state` is empty, waiting, looking, learning, known or failed."""

    state: str = "empty"
    words: str = "Add two classes, and pictures to each."
    done: int = 0
    total: int = 0


class Learner:
    """Looks and learns in a thread of its own until it is stopped."""

    def __init__(
        self, folder: Folder, out: Path, device: str, know: Callable[[RunClassifier], None]
    ) -> None:
        """
        Args:
            folder: what to learn from.
            out: the run directory, made anew by each learning.
            device: as the recipe's field.
            know: is given the classifier after each learning.
        """
        self.folder, self.out, self.know = folder, out, know
        self.status = Status()
        self.learned: Learned | None = None
        self.bad: dict[tuple[str, str], str] = {}  # pictures that cannot be used, and why
        self.recipe = recipe_of_teaching(device)
        self.still = threading.Lock()  # held by whoever needs the run to stay as it is
        self._memory = Remembered()
        self._seen: set[tuple[str, str, int, int]] = set()
        self._listed: Classes = {}
        self._since = 0.0  # when the folder was last seen to change
        self._done: Classes | None = None  # what was learned from, or failed to
        self._stores: list[Path] = []  # of the last learning, in the cache
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="learning", daemon=True)

    def start(self) -> None:
        """Begins; the backbone is read at once.

        Raises:
            AlexNetError: no such device.
        """
        resolution = resolve(self.recipe)
        assert resolution.weights is not None  # noqa: S101
        model = AlexNet(resolution.architecture, 2)
        carry_over(model, resolution.weights, ["", " "])
        body, _ = model.split(self.recipe.freeze)
        self._frozen = FrozenPart(body, resolution.device, resolution.dtype)
        self._view = evaluation_view(resolution.preprocessing)
        self._side = resolution.preprocessing.image_size
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after what it is doing."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        busy = False
        while not self._stopped.wait(0 if busy else PAUSE):
            try:
                with hushed():
                    busy = self._step()
            except AlexNetError as error:
                self._fail(f"{error.message} {error.hint}")
            except Exception as error:
                self._fail(f"something failed inside ({type(error).__name__}: {error}).")

    def _fail(self, words: str) -> None:
        if self.folder.classes() != self._listed:
            return  # it was changed meanwhile, and is learned from anew
        warn(words)
        self._done = self._listed
        self.status = Status("failed", words)

    def _step(self) -> bool:
        """One look at the folder, and what there is to do about it; whether there may be more."""
        listed = self.folder.classes()
        if listed != self._listed:
            self._listed, self._since = listed, time.monotonic()
        if self._look(listed):
            return True
        if listed == self._done:
            return False
        if missing := what_is_missing(listed):
            self.status, self._done = Status("waiting" if listed else "empty", missing), listed
        elif time.monotonic() - self._since >= QUIET:
            self._learn(listed)
        return False

    def _look(self, listed: Classes) -> bool:
        """Puts some new pictures through the frozen layers; whether there were any."""
        every = [
            (class_, one.name, one.size, one.changed)
            for class_, pictures in listed.items()
            for one in pictures
        ]
        new = [key for key in every if key not in self._seen]
        self._seen.intersection_update(every)
        self.bad = {key: why for key, why in self.bad.items() if key[0] in listed}
        squares: dict[tuple[int, ...], list[torch.Tensor]] = {}
        for class_, name, *_ in new[:PIECE]:
            try:
                content = (self.folder.path / class_ / name).read_bytes()
                square = torch.from_numpy(square_pixels(open_image(content), self._side).copy())
                squares.setdefault(tuple(square.shape), []).append(square)
                self.bad.pop((class_, name), None)
            except BadImage as error:
                self.bad[class_, name] = error.message
            except OSError:  # it is gone: the next listing has it no more
                continue
        for some in squares.values():
            self._memory.features(self._frozen, self._view, torch.stack(some))
        self._seen.update(new[:PIECE])
        if new:
            words = "Looking at new pictures."
            self.status = Status("looking", words, len(every) - len(new), len(every))
        return bool(new)

    def _learn(self, listed: Classes) -> None:
        """Makes the run anew, and gives its classifier on."""
        begun = time.monotonic()
        self.status = Status("learning", "Learning.")
        groups = addressed(str(self.folder.path), Reading(group=TAKE.pattern))
        apart = takes(listed)
        try:
            aside = self._train(groups if apart else str(self.folder.path))
        except DataError:
            if not apart:
                raise
            apart = False  # groups of such sizes that no draw does justice to them
            aside = self._train(str(self.folder.path))
        if list(self.folder.classes()) != list(listed):
            return  # a class came or went in the meantime
        with self.still:
            replace_folder(aside, self.out)
        classifier = load_run(self.out, device=self.recipe.device)
        figures = classifier.metrics
        self.know(classifier)
        alone = apart or not any(TAKE.match(one.name) for some in listed.values() for one in some)
        self.learned = Learned(
            tuple(classifier.names),
            time.monotonic() - begun,
            round(figures["top1"] * figures["n"]),
            figures["n"],
            tuple(figures["top1_interval"]),
            alone,
            rate_of(classifier.calibration),
        )
        self._done = listed
        self.status = Status("known", f"It knows {len(classifier.names)} classes.")

    def _train(self, data: str) -> Path:
        """An ordinary run beside the one that is there; returns its directory."""
        aside = self.out.with_name(f".{self.out.name}.new")
        with writing(aside):
            shutil.rmtree(aside, ignore_errors=True)
        run = set_up(data, self.recipe)
        run.inputs.memory = self._memory
        with run.opened(aside, resume=False):
            for _ in run.train():
                pass
            self.status = Status("learning", "Testing on pictures that it has not seen.")
            run.evaluate()
        stores: list[Store] = [run.inputs.store, *run.inputs.features.stores]
        for path in set(self._stores) - {one.path for one in stores}:
            shutil.rmtree(path, ignore_errors=True)  # each change of the folder would leave one
        self._stores = [one.path for one in stores]
        return aside


def recipe_of_teaching(device: str = "auto") -> Recipe:
    """What `alexnet train FOLDER` does with few images, on one view: seconds, for a point or
    two."""
    quiet = {"bad_images": "skip", "report": False, "tensorboard": False, "device": device}
    return solved(recipe("folder", views=1, **quiet), folds=FOLDS)


def what_is_missing(listed: Classes) -> str:
    """What must come before there is something to learn, in words; empty where it is there."""
    if len(listed) < 2:
        return "Add two classes, and pictures to each." if not listed else "Add a second class."
    few = [(name, len(pictures)) for name, pictures in listed.items() if len(pictures) < LEAST]
    if not few:
        return ""
    name, count = few[0]
    return f"Each class needs {LEAST} pictures, better 20: {name} has {count}."


def takes(listed: Classes) -> bool:
    """Whether each class has enough presses of the button, or other pictures, for all frames of one
    to stand on one side of the split."""
    counts = []
    pressed = False
    for pictures in listed.values():
        found = Counter(TAKE.match(one.name)[1] if TAKE.match(one.name) else one.name  # type: ignore[index]
                        for one in pictures)  # fmt: skip
        pressed |= max(found.values()) > 1
        counts.append(len(found))
    return pressed and min(counts) >= LEAST


def rate_of(calibration: Calibration) -> float:
    """At which rate it can say that it does not know; 0 where validation is not enough."""
    return next((one for one in RATES if len(calibration.p) >= images_needed(one)), 0)


def replace_folder(new: Path, old: Path) -> None:
    """Gives a folder the name of another, which is deleted."""
    gone = old.with_name(f".{old.name}.old")
    with writing(old):
        shutil.rmtree(gone, ignore_errors=True)
        if old.exists():
            old.rename(gone)
        new.rename(old)
        shutil.rmtree(gone, ignore_errors=True)


def require_own(out: Path) -> None:
    """RunError unless a folder is free, or holds a run, which is then replaced."""
    if out.exists():
        RunDirectory(out).require_trained()
