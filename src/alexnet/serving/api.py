"""The HTTP interface of `alexnet serve`: its routes, its documents, its answers."""

import asyncio
import base64
import hashlib
import importlib.resources
import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from alexnet.data.images import FORMATS, BadImage, TooManyPixels, UnknownFormat
from alexnet.data.names import find_class
from alexnet.errors import DataError, InputError, did_you_mean
from alexnet.scoring.conformal import Thresholds
from alexnet.serving.batching import Classifies, Served
from alexnet.serving.bodies import MOST_FILES, TYPES, Bodies, pictures_in, unless_gone
from alexnet.serving.decoding import Busy, Decoders
from alexnet.serving.guard import METHODS, Figures, Guard, Refused, Rules


class Guess(BaseModel):
    """A class and its probability."""

    class_: str = Field(alias="class", description="identifier: folder name or WordNet id")
    name: str = Field(description="readable")
    p: float = Field(ge=0, le=1)


class Answer(BaseModel):
    """What is said of one image: its most probable classes, or why it cannot be used."""

    top: list[Guess] | None = None
    set: list[Guess] | None = Field(
        None, description="with abstain: one class, several or none, the most probable first"
    )
    unlike: bool | None = Field(
        None, description="with abstain: unlike anything the model was trained on"
    )
    error: str | None = None
    hint: str | None = None


class Answers(BaseModel):
    """One answer for each image, in the order they were sent."""

    model: str
    images: list[Answer]


class About(BaseModel):
    """A model that is served."""

    name: str
    classes: list[str] = Field(description="identifiers: folder names or WordNet ids")
    names: list[str] = Field(description="readable, in the same order")
    explains: bool
    abstains: bool = Field(description="whether it can say that it does not know: abstain=0.05")


class Models(BaseModel):
    """All models; the first is used where none is named."""

    models: list[About]


class Failure(BaseModel):
    """What is wrong, and what to do about it."""

    error: str
    hint: str


def refusal(error: Exception) -> Refused:
    """Why a picture was not used, as an answer."""
    if isinstance(error, Busy):
        return Refused(503, "too many pictures are waiting.", "Try again in a second.", retry=1)
    reason = getattr(error, "message", "")
    if isinstance(error, TooManyPixels):
        return Refused(413, f"the picture is too large: {reason}.", "Send a smaller one.")
    if isinstance(error, UnknownFormat):
        return Refused(415, f"{reason}.", f"Known formats: {', '.join(FORMATS)}.")
    if isinstance(error, BadImage):
        return Refused(
            422, f"the picture cannot be used: {reason}.", "Save it again, or send another."
        )
    raise error


def limits_of(served: Served, abstain: float | None) -> Thresholds | None:
    """What a rate comes to, if one is asked for.

    Raises:
        Refused: the model is not calibrated, or has too few validation images for the rate.
    """
    if abstain is None:
        return None
    if served.calibration is None:
        raise Refused(
            409,
            f"{served.name} cannot say that it does not know: it is not calibrated.",
            "Serve it again after: alexnet predict RUN IMAGE --abstain 0.05; or for an exported "
            "file: alexnet export RUN --abstain",
        )
    try:
        return served.calibration.thresholds(abstain)
    except InputError as error:
        raise Refused(422, error.message, error.hint) from error


class Server:
    """The models and what they are asked."""

    def __init__(self, models: dict[str, Classifies]) -> None:
        """
        Args:
            models: classifiers by name; the first is used where a request names none.
        """
        self.decoders = Decoders()
        self.models = {name: Served(name, one, self.decoders) for name, one in models.items()}
        self.figures, self.bodies = Figures(), Bodies()

    def model(self, name: str) -> Served:
        """The model of a name, or the first.

        Raises:
            Refused: there is none.
        """
        if not self.models:
            raise Refused(409, "nothing has been learned yet.", "Add pictures to two classes.")
        if not name:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Refused(
                404, f"there is no model {name[:80]!r}.", did_you_mean(name[:80], self.models)
            )
        return self.models[name]

    async def predict(
        self, request: Request, model: str, top: int, abstain: float | None
    ) -> Response:
        """The most probable classes of each picture in a request, and with `abstain` its set."""
        served = self.model(model)
        limits = limits_of(served, abstain)
        async with self.bodies.read(request) as body:
            pictures = await pictures_in(request, body)
            ask = served.examine if limits else served.predict
            asked = asyncio.gather(*map(ask, pictures), return_exceptions=True)
            found = await unless_gone(request, asked)
        refused = [refusal(one) for one in found if isinstance(one, Exception)]
        if any(one.status == 503 for one in refused) or len(refused) == len(pictures):
            raise refused[0]
        reasons = iter(refused)
        images: list[dict[str, Any]] = []
        for one in found:
            if isinstance(one, Exception):
                why = next(reasons)
                images.append({"error": why.message, "hint": why.hint})
            else:
                p, distance = one if limits else (one, np.float32(0))
                size = int(limits.sets(p).sum()) if limits else 0
                order = np.argsort(-p, kind="stable")[: max(top, size)]
                guesses = [served.guess(k, float(p[k])) for k in order]
                images.append({"top": guesses[:top]})
                if limits:
                    images[-1] |= {"set": guesses[:size], "unlike": bool(limits.unlike(distance))}
        return JSONResponse({"model": served.name, "images": images})

    async def explain(self, request: Request, model: str, class_: str) -> Response:
        """Grad-CAM over the one picture in a request, as a .png file."""
        served = self.model(model)
        if not served.explains:
            raise Refused(
                409,
                f"{served.name} is an exported file, whose inside cannot be looked at.",
                "Serve the run directory it was made of.",
            )
        known = class_ in served.classes or class_ in served.names
        word = class_ if known else class_[:80]
        try:
            label = find_class(word, served.classes, served.names) if word else None
        except DataError as error:
            raise Refused(404, error.message, error.hint) from error
        async with self.bodies.read(request) as body:
            pictures = await pictures_in(request, body)
            if len(pictures) > 1:
                raise Refused(413, "only one picture is explained at a time.", "Send one.")
            asked = asyncio.ensure_future(served.explain(pictures[0], label))
            try:
                found = await unless_gone(request, asked)
            except (BadImage, Busy) as error:
                raise refusal(error) from error
        return Response(found, media_type="image/png")

    def metrics(self) -> bytes:
        """Everything counted, in Prometheus' text format."""
        lines = []
        for key, about in (
            ("waiting", "gauge"), ("batches", "counter"), ("classified", "counter"),
        ):  # fmt: skip
            name = f"alexnet_{key}" + ("_total" if about == "counter" else "")
            lines.append(f"# TYPE {name} {about}")
            for model in self.models.values():
                label = re.sub(r'["\\\n]', "_", model.name)
                lines.append(f'{name}{{model="{label}"}} {getattr(model, key)}')
        return generate_latest(self.figures.registry) + "\n".join(lines).encode() + b"\n"

    def stop(self) -> None:
        """Ends all threads."""
        self.decoders.stop()
        for model in self.models.values():
            model.stop()


def page(package: str, name: str = "page.html") -> tuple[bytes, str]:
    """A page of a package, whole, and the policy that allows its own script and style and nothing
    else. /* include NAME */ in it stands for another file of the package."""

    def text_of(name: str) -> str:
        return (importlib.resources.files(package) / name).read_text(encoding="utf-8")

    text = re.sub(r"/\* include (\S+) \*/", lambda found: text_of(found[1]).strip(), text_of(name))
    hashes = {}
    for kind in ("script", "style"):
        inside = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()) for one in inside]
        hashes[kind] = " ".join(f"'sha256-{one.decode()}'" for one in digests)
    policy = (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        "img-src 'self' blob: data:; media-src blob:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy


FAILURES: dict[int | str, dict[str, Any]] = {
    400: {"model": Failure, "description": "An empty or broken body"},
    401: {"model": Failure, "description": "No token, or a wrong one"},
    403: {"model": Failure, "description": "A page of another origin"},
    404: {"model": Failure, "description": "No such model or class"},
    408: {"model": Failure, "description": "The body came too slowly"},
    413: {"model": Failure, "description": "Too large"},
    415: {"model": Failure, "description": "Not an image, or of an unknown format"},
    421: {"model": Failure, "description": "An unknown host name"},
    422: {"model": Failure, "description": "A damaged image, or a wrong parameter"},
    503: {"model": Failure, "description": "Too busy; see Retry-After"},
}
RAW = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in TYPES}
FILES = {
    "type": "object", "required": ["images"], "additionalProperties": False,
    "properties": {"images": {
        "type": "array", "minItems": 1, "maxItems": MOST_FILES,
        "items": {"type": "string", "format": "binary"},
    }},
}  # fmt: skip
BODY = {"required": True, "content": {**RAW, "multipart/form-data": {"schema": FILES}}}
ModelName = Annotated[str, Query(description="a model's name; the first where none is given")]


def make_app(
    server: Server,
    rules: Rules,
    log: Callable[[str], None] | None = None,
    more: APIRouter | None = None,
    package: str = "alexnet.serving",
    name: str = "page.html",
) -> Guard:
    """The ASGI application. `log` is told of each request; `more` are routes besides its own, and
    `name` is its page in the `package`."""
    app = FastAPI(
        title="alexnet", version=version("alexnet"), docs_url=None, redoc_url=None,
        description="Classifies images. Nothing that is sent is kept.", redirect_slashes=False,
    )  # fmt: skip
    html, policy = page(package, name)
    methods = dict(METHODS)
    if more:
        app.include_router(more)
        methods |= methods_of(more)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        camera = {"Permissions-Policy": "camera=(self), microphone=(), geolocation=()"}
        headers = {"Content-Security-Policy": policy, **camera}
        return Response(html, media_type="text/html", headers=headers)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server is there; needs no token."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(server.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", response_model=Models)
    async def models() -> dict[str, Any]:
        """The models and their classes."""
        return {"models": [
            {
                "name": one.name, "classes": one.classes, "names": one.names,
                "explains": one.explains, "abstains": one.abstaining is not None,
            }
            for one in server.models.values()
        ]}  # fmt: skip

    @app.post(
        "/v1/predict", response_model=Answers, response_model_exclude_none=True,
        responses={**FAILURES, 409: {"model": Failure, "description": "It is not calibrated"}},
        openapi_extra={"requestBody": BODY},
    )  # fmt: skip
    async def predict(
        request: Request,
        model: ModelName = "",
        top: Annotated[int, Query(ge=1, le=1000)] = 5,
        abstain: Annotated[
            float | None,
            Query(gt=0, lt=1, description="the share of sets that may miss the true class"),
        ] = None,
    ) -> Response:
        """The most probable classes of an image, or of several; with abstain also the set that
        holds the true one, and whether the image is unlike anything seen."""
        return await server.predict(request, model, top, abstain)

    @app.post(
        "/v1/explain", response_class=Response, openapi_extra={"requestBody": {
            "required": True, "content": RAW}},
        responses={200: {"content": {"image/png": {}}}, **FAILURES,
                   409: {"model": Failure, "description": "A model without an inside"}},
    )  # fmt: skip
    async def explain(
        request: Request,
        model: ModelName = "",
        class_: Annotated[
            str,
            Query(alias="class", description="its identifier or name; else the most probable one"),
        ] = "",
    ) -> Response:
        """The image with Grad-CAM over it: where the network sees the class."""
        return await server.explain(request, model, class_)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)  # noqa: S101
        return error.response()

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it; the figures count it

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        first = error.errors()[0]
        what = f"{first['loc'][-1]}: {first['msg']}."
        return Refused(422, what, "See /openapi.json for what is expected.").response()

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        answer = Refused(error.status_code, f"{error.detail}.", "See /openapi.json.").response()
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return Refused(
            500, "something failed inside.", "The server's own words say what."
        ).response()

    return Guard(app, rules, server.figures, log, methods)


def methods_of(router: APIRouter) -> dict[str, str]:
    """The methods of each of its paths, as `guard.METHODS` has them."""
    found: dict[str, str] = {}
    for route in router.routes:
        assert isinstance(route, APIRoute) and route.methods  # noqa: S101
        own = "GET, HEAD" if "GET" in route.methods else ", ".join(sorted(route.methods))
        found[route.path] = f"{own}, OPTIONS"
    return found
