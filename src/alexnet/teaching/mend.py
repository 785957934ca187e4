"""`alexnet teach RUN --mend`: the page on which labels are mended, and its routes."""

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import JSONResponse, Response

from alexnet.atomic import output_file
from alexnet.console import say
from alexnet.data.changes import OTHER
from alexnet.holding import one_at_a_time
from alexnet.runs.directory import RunDirectory
from alexnet.runtime import as_found
from alexnet.serving.api import Server, make_app
from alexnet.serving.guard import Refused
from alexnet.serving.serve import Place
from alexnet.teaching.mending import LARGE, SMALL, Mending, table_beside
from alexnet.teaching.teach import done

UNDO = "undo"
KEPT = {"Cache-Control": "private, max-age=3600"}


class Answer(BaseModel):
    """What is said of a picture."""

    row: int
    of: str  # the fingerprint of the data that it is a row of
    answer: Literal["right", "other", "remove", "unsure", "undo"]
    class_: str = Field("", alias="class", max_length=300)  # the other one


def routes(mending: Mending, server: Server) -> APIRouter:
    """What the page asks for."""
    router = APIRouter(prefix="/v1/mend", include_in_schema=False)

    @router.get("/about")
    async def about() -> Response:
        return JSONResponse(await done(mending.about))

    @router.get("/state")
    async def state() -> Response:
        return JSONResponse(await done(mending.state))

    @router.post("/answer")
    async def answer(request: Request) -> Response:
        async with server.bodies.read(request) as body:
            try:
                said = Answer.model_validate_json(body)
            except ValidationError as error:
                raise Refused(422, "that is no answer.", "Look at the page anew.") from error
        if not mending.store.fingerprint.startswith(said.of):
            raise Refused(409, "the program was started anew.", "Look at the page anew.")
        if said.answer == UNDO:
            await done(mending.undo, said.row)
        else:
            label = said.class_ if said.answer == OTHER else ""
            await done(mending.answer, said.row, said.answer, label)
        return JSONResponse(await done(mending.state))

    @router.get("/picture")
    async def picture(
        row: int,
        side: Annotated[int, Query(ge=SMALL, le=LARGE)] = LARGE,
        of: str = "",  # so that pictures of other data have other addresses
    ) -> Response:
        content = await done(mending.picture, row, side)
        kind = "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
        return Response(content, media_type=kind, headers=KEPT if of else None)

    return router


@as_found()
def mend(run: str | Path, *, labels: str | Path = "", device: str = "auto", **where: Any) -> None:
    """Serves a page on which the labels of a run's data are mended, one picture at a time, until it
    is stopped: those that `check` doubts and those that the run got wrong, the most doubtful first.
    No picture is touched; `alexnet.labelled(data, labels=...)` is the data with the changes.

    Args:
        run: a finished run directory.
        labels: the table of changes, which is gone on with where it is there; by default beside the
            data.
        device: as the recipe's field.
        where: host, port, token, names, root_path, behind_https, forwarded and log, as for `serve`.

    Raises:
        RunError: no finished run, or another program writes the table. DataError: its data has
            changed, or the table is of other data or damaged. InputError: `labels` is no name of a
            .csv file; and as for `serve`.
    """
    table = Path(labels or table_beside(RunDirectory(run).settings.data))
    table = output_file(table, ".csv").absolute()  # of whatever kind it is read, this is written
    place = Place(**where)
    listener, rules = place.opened()
    server = Server({})
    try:
        with one_at_a_time(table, f"{table} is being written"):
            mending = Mending(run, table, device)
            more = routes(mending, server)
            log = say if place.log else None
            app = make_app(server, rules, log, more, "alexnet.teaching", "mend.html")
            place.run(listener, app, f"mending the labels of {mending.data}, in {table}")
    finally:
        server.stop()
        listener.close()
