"""`alexnet teach`: the page's routes, over those of `serve`, which gives the answers."""

import asyncio
import csv
import io
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from PIL import Image
from pydantic import BaseModel, Field, ValidationError
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, JSONResponse, Response

from alexnet.atomic import output_folder
from alexnet.classification.run_classifier import RunClassifier
from alexnet.console import say, warn
from alexnet.data.images import BadImage, open_image, square_pixels
from alexnet.errors import AlexNetError, DiskError, InputError
from alexnet.exporting.export import export
from alexnet.runtime import as_found
from alexnet.serving.api import Server, make_app, refusal
from alexnet.serving.batching import Served
from alexnet.serving.decoding import SMALL, Busy, cost_of, square_apart
from alexnet.serving.guard import Refused
from alexnet.serving.serve import Place
from alexnet.teaching.folder import Classes, Folder, Gone, Picture
from alexnet.teaching.learning import Learner, require_own
from alexnet.values import checked_arguments

THUMB = 160  # px
NAME = "taught"  # what programs call the model


class Change(BaseModel):
    """A change of the folder."""

    do: Literal["add", "rename", "delete", "move", "restore"]
    class_: str = Field("", alias="class", max_length=300)
    pictures: list[Annotated[str, Field(max_length=300)]] | None = Field(None, max_length=5000)
    to: str = Field("", max_length=300)  # the new name, the other class, or what is restored


def refused(error: AlexNetError) -> Refused:
    """Why something was not done, as an answer."""
    status = 507 if isinstance(error, DiskError) else 409 if isinstance(error, Gone) else 422
    return Refused(status, error.message, error.hint)


async def done(what: Callable[..., Any], *given: Any) -> Any:
    """What a function comes to that reads or writes files, in a thread.

    Raises:
        Refused: it could not be done.
    """
    try:
        return await asyncio.to_thread(what, *given)
    except BadImage as error:
        raise refusal(error) from error
    except AlexNetError as error:
        raise refused(error) from error


class Teaching:
    """A folder that is filled, what learns from it, and the server that gives its answers."""

    def __init__(self, folder: Folder, out: Path, device: str) -> None:
        self.folder = folder
        self.server = Server({})
        self.learner = Learner(folder, out, device, self.know)
        self.revision = 0
        self._listed: tuple[Classes, list[Picture]] = {}, []
        self._before: Served | None = None

    def know(self, classifier: RunClassifier) -> None:
        """From now on this one answers. The one before may still owe somebody an answer; it is
        ended when the next one comes."""
        new = Served(NAME, classifier, self.server.decoders)
        if self._before:
            self._before.stop()
        self._before = self.server.models.get(NAME)
        self.server.models[NAME] = new

    def stop(self) -> None:
        """Ends all threads, and forgets what was deleted."""
        self.learner.stop()
        self.server.stop()
        if self._before:
            self._before.stop()
        self.folder.forget_deleted()

    def state(self, since: int) -> dict[str, Any]:
        """What the page shows; without the pictures, if `since` is still the revision."""
        listed, unsorted = self.folder.classes(), self.folder.unsorted()
        if (listed, unsorted) != self._listed:
            self.revision, self._listed = self.revision + 1, (listed, unsorted)
        status, learned = self.learner.status, self.learner.learned
        told: dict[str, Any] = {
            "revision": self.revision,
            "status": vars(status),
            "learned": vars(learned) if learned else None,
        }
        if since != self.revision:
            told["folder"] = str(self.folder.path)
            told["run"] = str(self.learner.out)
            told["classes"] = [
                {"name": name, "pictures": named(pictures)} for name, pictures in listed.items()
            ]
            told["unsorted"] = named(unsorted)
        told["bad"] = [
            {"class": class_, "name": name, "why": why}
            for (class_, name), why in sorted(self.learner.bad.copy().items())
        ]
        return told

    def change(self, change: Change) -> dict[str, Any]:
        """Does what is asked; for what is deleted by which name it comes back."""
        folder, undo = self.folder, ""
        if change.do == "add":
            folder.add_class(change.to)
        elif change.do == "rename":
            folder.rename_class(change.class_, change.to)
        elif change.do == "delete":
            undo = folder.delete(change.class_, change.pictures)
        elif change.do == "move":
            folder.move(change.class_, change.pictures or [], change.to)
        else:
            folder.restore(change.to)
        return {"undo": undo}

    async def take(self, class_: str, name: str, content: bytes) -> str:
        """Looks at a picture, and writes it; as it came. Costly ones are decoded as the server
        decodes them: one at a time, in a process of their own."""
        loop = asyncio.get_running_loop()
        decoded: asyncio.Future[None] = loop.create_future()

        def tell(error: Exception | None) -> None:
            if not decoded.done():
                decoded.set_exception(error) if error else decoded.set_result(None)

        def work(cost: int) -> None:
            try:
                if cost > SMALL:
                    square_apart(content, THUMB, 0, decoded.cancelled)
                else:
                    square_pixels(open_image(content), THUMB)
            except Exception as error:
                loop.call_soon_threadsafe(tell, error)
            else:
                loop.call_soon_threadsafe(tell, None)

        try:
            cost = cost_of(content)
            self.server.decoders.submit(cost, lambda: work(cost))
            await decoded
        except (BadImage, Busy) as error:
            raise refusal(error) from error
        return str(await done(self.folder.add, class_, name, content))

    def thumbnail(self, class_: str, name: str) -> bytes:
        """A small .jpg of a picture's centre square."""
        try:
            content = self.folder.file(class_, name).read_bytes()
        except OSError as error:
            raise Gone("the picture is not there any more.", "Look at the page anew.") from error
        pixels = square_pixels(open_image(content), THUMB)
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "JPEG")
        return file.getvalue()

    def exported(self, kind: Literal["onnx", "web", "folder"], work: Path) -> Path:
        """The file that is taken away: the folder, or what `alexnet export` makes of the run."""
        path = self.folder.path
        if kind == "folder":
            return zipped(path, work / f"{path.name}.zip", list(self.folder.classes()))
        if NAME not in self.server.models:
            raise InputError("nothing has been learned yet.", "Add pictures to two classes.")
        abstain = bool(self.learner.learned and self.learner.learned.rate)
        out = work / (f"{path.name}.onnx" if kind == "onnx" else "page")
        with self.learner.still:
            made = export(self.learner.out, format=kind, out=out, abstain=abstain)
        if kind == "onnx":
            return made
        return zipped(made, work / f"{path.name}-page.zip", [""])


def named(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Pictures as the page is told of them."""
    return [{"name": one.name, "changed": one.changed} for one in pictures]


def suggested(table: Path) -> list[Path]:
    """The pictures of a table as `alexnet suggest` writes it, those that are there.

    Raises:
        InputError: it is no such table, or none of them is there.
    """
    try:
        with open(table, newline="", encoding="utf-8") as file:
            paths = [table.parent / row["image"] for row in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise InputError(f"there is no file {table}.", "Check the path.") from error
    except (OSError, ValueError, csv.Error, KeyError, TypeError) as error:
        raise InputError(
            f"{table} is no table of pictures: it has no column image.",
            "Give the suggestions.csv that alexnet suggest has written.",
        ) from error
    there = [path for path in paths if path.is_file()]
    if len(there) < len(paths):
        warn(f"{len(paths) - len(there):,} of {len(paths):,} pictures of {table} are not there")
    if not there:
        raise InputError(f"{table} names no picture that is there.", "Ask alexnet suggest again.")
    return there


def zipped(folder: Path, out: Path, names: list[str]) -> Path:
    """Some folders in a folder as a .zip file; pictures do not become smaller."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            if name:
                archive.mkdir(name)  # an empty class is one, too
            for file in sorted((folder / name).rglob("*")):
                if file.is_file() and not file.name.startswith("."):
                    archive.write(file, file.relative_to(folder))
    return out


def routes(teaching: Teaching) -> APIRouter:
    """What the page asks for."""
    router = APIRouter(prefix="/v1/teach", include_in_schema=False)

    @router.get("/state")
    async def state(since: int = -1) -> Response:
        return JSONResponse(await done(teaching.state, since))

    @router.post("/change")
    async def change(request: Request) -> Response:
        async with teaching.server.bodies.read(request) as body:  # FastAPI's own way has no limits
            try:
                asked = Change.model_validate_json(body)
            except ValidationError as error:
                raise Refused(422, "that is no change.", "Look at the page anew.") from error
        return JSONResponse(await done(teaching.change, asked))

    @router.post("/picture")
    async def picture(
        request: Request,
        class_: Annotated[str, Query(alias="class", max_length=300)],
        name: Annotated[str, Query(max_length=300)] = "",
    ) -> Response:
        async with teaching.server.bodies.read(request) as body:
            taken = await teaching.take(class_, name, body)
        return JSONResponse({"name": taken}, 201)

    @router.get("/thumbnail")
    async def thumbnail(
        class_: Annotated[str, Query(alias="class", max_length=300)],
        name: Annotated[str, Query(max_length=300)],
        changed: str = "",  # so that another picture of the name has another address
    ) -> Response:
        content = await done(teaching.thumbnail, class_, name)
        headers = {"Cache-Control": "private, max-age=3600"} if changed else None
        return Response(content, media_type="image/jpeg", headers=headers)

    @router.get("/export")
    async def exported(kind: Literal["onnx", "web", "folder"]) -> Response:
        work = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="alexnet-"))
        clean = BackgroundTask(shutil.rmtree, work, ignore_errors=True)
        try:
            file = await done(teaching.exported, kind, work)
        except BaseException:
            await clean()
            raise
        return FileResponse(file, filename=file.name, background=clean)

    return router


@checked_arguments
@as_found()
def teach(
    folder: str | Path,
    *,
    out: str | Path = "",
    suggestions: str | Path = "",
    device: str = "auto",
    **where: Any,
) -> None:
    """Serves a page on which a folder of class folders is filled with pictures, and learned from,
    until it is stopped.

    Args:
        folder: it is made where there is none.
        out: the run directory, made anew by each learning; by default FOLDER-run.
        suggestions: a table that `suggest` has written: copies of its pictures wait on the page to
            be sorted into classes.
        device: as the recipe's field.
        where: host, port, token, names, root_path, behind_https, forwarded and log, as for `serve`.

    Raises:
        InputError: the folder is no folder of class folders, the table is none, or as for
            `serve`. RunError: `out` holds something else than a run. DiskError: nothing can be
            written.
    """
    path = Path(folder).expanduser().absolute()
    run = output_folder(out).absolute() if out else path.with_name(f"{path.name}-run")
    require_own(run)
    files = suggested(Path(suggestions).expanduser()) if suggestions else []
    place = Place(**where)
    teaching = Teaching(Folder(path), run, device)
    teaching.folder.forget_deleted()
    if files:
        say(f"{teaching.folder.lay_unsorted(files):,} pictures wait to be sorted")
    listener, rules = place.opened()
    try:
        teaching.learner.start()
        log = say if place.log else None
        app = make_app(teaching.server, rules, log, routes(teaching), "alexnet.teaching")
        place.run(listener, app, f"teaching {path}; its run is {run}")
    finally:
        teaching.stop()
        listener.close()
