"""Reading what a client sends: no body too large, too slow, or too many at once."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from alexnet.serving.guard import Refused

MOST_BYTES = 20 * 2**20  # of a request's body
MOST_HELD = 512 * 2**20  # of all bodies together
MOST_FILES = 32  # images in one request
BODY_SECONDS = 20.0  # for a body to come
TYPES = (  # of a body that is one image file; what it is, is seen by its content
    "image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff", "image/avif",
    "image/x-portable-anymap", "application/octet-stream",
)  # fmt: skip
logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it quotes what it was sent


class Bodies:
    """Reads the bodies of requests, none too large, too slow, or too many together."""

    def __init__(self) -> None:
        self.held = 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Yields the body of a request, and counts it as held while the block runs.

        Raises:
            Refused: it is empty, too large or too slow, or there are too many.
        """
        parts: list[bytes] = []
        size = 0
        too_large = Refused(
            413,
            f"the body is larger than {MOST_BYTES / 2**20:.0f} MiB.",
            "Send a smaller picture; the network sees a small one anyway.",
        )
        with contextlib.suppress(ValueError):
            if int(request.headers.get("content-length", "0")) > MOST_BYTES:
                raise too_large
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    self.held += len(part)
                    if size > MOST_BYTES:
                        raise too_large
                    if self.held > MOST_HELD:
                        raise Refused(503, "too much at once.", "Try again in a second.", retry=1)
            if not size:
                raise Refused(400, "the body is empty.", "Send the bytes of an image file.")
            yield b"".join(parts)
        except TimeoutError as error:
            raise Refused(
                408,
                f"the body did not come within {BODY_SECONDS:.0f} seconds.",
                "Send a smaller picture, or over a faster line.",
            ) from error
        finally:
            self.held -= size


class InMemory(MultiPartParser):
    """Several images in one body, which is in memory already and does not go to the disk."""

    spool_max_size = MOST_BYTES


async def pictures_in(request: Request, body: bytes) -> list[bytes]:
    """The image files of a body: itself, or the parts of multipart/form-data.

    Raises:
        Refused: another content type, or a body that is not what it says.
    """
    coded = request.headers.get("content-encoding", "identity").strip().lower()
    if coded not in ("identity", ""):
        raise Refused(
            415,
            f"the body is coded as {coded[:80]!r}.",
            "Send it as it is; image files are compressed already.",
            {"Accept-Encoding": "identity"},
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind in (*TYPES, ""):
        return [body]
    if kind != "multipart/form-data":
        raise Refused(
            415,
            f"the content type is {kind[:80]!r}, expected an image type, "
            "application/octet-stream, multipart/form-data or none.",
            "Send the bytes of an image file, with a header such as Content-Type: image/jpeg.",
        )

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    files: list[bytes] = []
    try:
        form = await InMemory(request.headers, whole(), max_files=MOST_FILES, max_fields=0).parse()
        for _, one in form.multi_items():
            if isinstance(one, UploadFile):
                files.append(await one.read())
        await form.close()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refused(
            400,
            f"the multipart body cannot be read ({getattr(error, 'message', 'no boundary')}).",
            f"Send at most {MOST_FILES} files, and no other fields.",
        ) from error
    if not files:
        raise Refused(400, "there is no file in the body.", "Send each image as a file.")
    return files


async def unless_gone(request: Request, asked: "asyncio.Future[Any]") -> Any:
    """What `asked` comes to; if the client leaves before, it is given up."""
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise ClientDisconnect
        return asked.result()
    finally:
        gone.cancel()
        # whatever it comes to is looked at, or asyncio would complain that nobody did
        asked.add_done_callback(lambda one: one.cancelled() or one.exception())
        asked.cancel()
