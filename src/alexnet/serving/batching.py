"""Images that are asked about one by one, classified in small batches by one thread for each
model."""

import asyncio
import contextlib
import io
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.classification.classifier import Classifier
from alexnet.data.images import Pixels
from alexnet.serving.decoding import SMALL, Busy, Decoders, cost_of, square_apart

BATCH = 32  # images that are classified together, at most
MOST_WAITING = 256  # images of one model that wait, are decoded or classified, at most
SHOWN_SIDE = 320  # px of an explaining picture, at least


class Classifies(Protocol):
    """What is needed of a classifier: `predict.load` makes one of a run, or of an exported file."""

    classes: list[str]
    names: list[str]

    image_size: int
    white: int

    def square(self, image: bytes | Pixels) -> Pixels: ...

    def probabilities(self, squares: list[Any]) -> NDArray[np.float32]: ...


@dataclass
class Job:
    """One image on its way. `answer` is of the event loop that asked, and only set there."""

    content: bytes
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    explain: bool = False
    label: int | None = None
    examine: bool = False  # the distance is asked for too
    square: Any = None  # (3, S, S) uint8, once decoded


class Served:
    """A classifier that any number of clients may ask. Whatever came in while a batch was computed
    makes up the next one, so nobody waits for a batch to become full."""

    def __init__(self, name: str, classifier: Classifies, decoders: Decoders) -> None:
        """
        Args:
            name: what clients call it.
            classifier: used by one thread at a time.
            decoders: shared by all models.
        """
        self.name, self.classifier, self.decoders = name, classifier, decoders
        self.classes, self.names = classifier.classes, classifier.names
        # what can say that it does not know, without being calibrated first
        able = isinstance(classifier, Classifier) and classifier.calibrated
        self.abstaining = cast(Classifier, classifier) if able else None
        self.calibration = self.abstaining.calibration if self.abstaining else None
        self.waiting = self.batches = self.classified = 0
        self._decoded: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"model {name}", daemon=True)
        self._thread.start()

    @property
    def explains(self) -> bool:
        """Whether there is a network whose inside can be looked at."""
        return hasattr(self.classifier, "model")

    def guess(self, label: int, p: float) -> dict[str, Any]:
        """A class and its probability, as answers hold them."""
        return {"class": self.classes[label], "name": self.names[label], "p": round(p, 6)}

    async def predict(self, content: bytes) -> NDArray[np.float32]:
        """The class probabilities (K,) of the bytes of one image file.

        Raises:
            BadImage: they cannot be used. Busy: too many are waiting.
        """
        found: NDArray[np.float32] = await self._ask(content)
        return found

    async def examine(self, content: bytes) -> tuple[NDArray[np.float32], np.float32]:
        """The same, and the distance, if it is abstaining. Errors as in `predict`."""
        found: tuple[NDArray[np.float32], np.float32] = await self._ask(content, examine=True)
        return found

    async def explain(self, content: bytes, label: int | None = None) -> bytes:
        """Grad-CAM of an image, laid over it: a .png file. `label` is the class that is looked for,
        None the most probable one. Errors as in `predict`."""
        found: bytes = await self._ask(content, explain=True, label=label)
        return found

    async def _ask(self, content: bytes, **how: Any) -> Any:
        if self.waiting >= MOST_WAITING:
            raise Busy
        loop = asyncio.get_running_loop()
        job = Job(content, loop, loop.create_future(), **how)
        self.waiting += 1
        self.decoders.submit(0, lambda: self._look(job))
        return await job.answer

    def stop(self) -> None:
        """Ends the thread, after what it is doing; to be called when the decoders have stopped."""
        self._decoded.put(None)
        self._thread.join()

    def _look(self, job: Job) -> None:  # in a thread that decodes, as all that follows
        try:
            cost = cost_of(job.content)
            self.decoders.submit(cost, lambda: self._decode(job, cost))
        except Exception as error:
            self._deliver([job], [error])

    def _decode(self, job: Job, cost: int) -> None:
        if job.answer.cancelled():  # the client has left
            self._deliver([job], [None])
            return
        content: bytes | Pixels = job.content
        try:
            if cost > SMALL:
                content = square_apart(
                    job.content,
                    self.classifier.image_size,
                    self.classifier.white,
                    lambda: job.answer.cancelled() or self.decoders.stopped,
                )
            job.square = self.classifier.square(content)
        except Exception as error:  # whatever it is, somebody waits for it
            self._deliver([job], [error])
        else:
            self._decoded.put(job)

    def _work(self) -> None:  # the thread of the model
        while (first := self._decoded.get()) is not None:
            self._work_on([first, *self._more()])
            del first  # and the picture with it, before the next one comes

    def _more(self) -> Iterator[Job]:
        """What has been decoded in the meantime, up to a batch."""
        with contextlib.suppress(queue.Empty):
            for _ in range(BATCH - 1):
                if (job := self._decoded.get_nowait()) is None:
                    self._decoded.put(None)  # seen again after this batch
                    return
                yield job

    def _work_on(self, jobs: list[Job]) -> None:
        gone = [job for job in jobs if job.answer.cancelled()]
        self._deliver(gone, [None] * len(gone))
        self._classify([job for job in jobs if job not in gone and not job.explain])
        for job in jobs:
            if job.explain and job not in gone:
                self._explain(job)

    def _classify(self, jobs: list[Job]) -> None:
        if not jobs:
            return
        squares = [job.square for job in jobs]
        try:
            if self.abstaining and any(job.examine for job in jobs):
                p, distances = self.abstaining.examined(squares)
            else:
                p = distances = self.classifier.probabilities(squares)
        except Exception as error:
            self._deliver(jobs, [error] * len(jobs))
            return
        self.batches += 1
        self.classified += len(jobs)
        both = zip(jobs, p, distances, strict=True)
        self._deliver(jobs, [(own, far) if job.examine else own for job, own, far in both])

    def _explain(self, job: Job) -> None:
        try:
            self._deliver([job], [grad_cam_png(self.classifier, job.square, job.label)])
        except Exception as error:
            self._deliver([job], [error])

    def _deliver(self, jobs: Sequence[Job], answers: Sequence[Any]) -> None:
        for job, answer in zip(jobs, answers, strict=True):
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                job.loop.call_soon_threadsafe(self._hand_over, job, answer)

    def _hand_over(self, job: Job, answer: Any) -> None:  # in the loop that asked
        self.waiting -= 1
        if job.answer.done():  # the client has left in the meantime
            return
        if isinstance(answer, Exception):
            job.answer.set_exception(answer)
        else:
            job.answer.set_result(answer)


def grad_cam_png(classifier: Any, square: Pixels, label: int | None) -> bytes:
    """What a network looks at, as the bytes of a .png file: its view of (3, S, S) uint8 pixels with
    Grad-CAM over it."""
    import torch  # not needed to serve exported files

    from alexnet.network.inference import evaluation_transforms
    from alexnet.network.saliency import grad_cam, overlay, pictures

    how = classifier.trained.preprocessing
    [centre, *_] = evaluation_transforms(how)
    x = centre(torch.from_numpy(square)[None].to(classifier.device), torch.Generator())
    cam = grad_cam(classifier.model, x, None if label is None else torch.tensor([label]))[0]
    seen = Image.fromarray(pictures(x, how)[0])
    if seen.width < SHOWN_SIDE:
        seen = seen.resize((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    Image.fromarray(overlay(np.asarray(seen), cam.float().cpu().numpy())).save(file, "PNG")
    return file.getvalue()
