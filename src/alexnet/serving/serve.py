"""`alexnet serve`: runs as an HTTP API and as one page to try them on, in a browser."""

import errno
import getpass
import io
import ipaddress
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from PIL import Image

from alexnet.classification.predict import load
from alexnet.console import say
from alexnet.errors import InputError
from alexnet.serving.api import Server, make_app
from alexnet.serving.batching import Classifies, Served, grad_cam_png
from alexnet.serving.guard import Guard, Protocol, Rules, allow_connections, listen


def load_models(runs: Sequence[str], device: str = "auto") -> dict[str, Classifies]:
    """Classifiers by name: that of the run directory, also for the files that alexnet writes into
    it, or of the file; numbered where two are alike.

    Raises:
        RunError, WeightsError: one cannot be used.
    """
    found: dict[str, Classifies] = {}
    for run in runs:
        path = Path(run).expanduser().resolve()
        inside = path.is_file() and path.stem in ("best", "model")
        stem = path.name if path.is_dir() else path.parent.name if inside else path.stem
        name, number = stem, 1
        while name in found:
            number += 1
            name = f"{stem}-{number}"
        found[name] = load(run, device=device)
    return found


def serve(
    runs: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str = "",
    names: Sequence[str] = (),
    log: bool = False,
    device: str = "auto",
) -> None:
    """Serves run directories or exported files until it is stopped.

    Args:
        runs: the models.
        host: the address to listen at. All but this machine's own make a token necessary.
        port: 0 for a free one.
        token: what clients must know; made up and printed where one is necessary.
        names: further host names the server is known by.
        log: say a line for every request.
        device: as the recipe's field.

    Raises:
        InputError: the port is in use, or the address not of this machine. RunError: no finished
            run.
    """
    models = load_models(runs, device)
    try:
        listener = listen(host, port)
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: ("is in use.", "Stop the other program, or give another --port."),
            errno.EACCES: ("is not allowed to you.", "Give a --port above 1023."),
        }
        what, hint = reasons.get(
            error.errno or 0,
            (f"cannot be used ({error.strerror}).", "Give an address of this machine."),
        )
        raise InputError(f"port {port} at {host} {what}", hint) from error
    address, port = listener.getsockname()[:2]
    loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    token = token or ("" if loopback else secrets.token_urlsafe(16))
    known = {"localhost", host.lower(), *(name.lower() for name in names)}
    rules = Rules(
        loopback, frozenset(known if loopback else known | {socket.gethostname().lower()}), token
    )
    allow_connections()
    server = Server(models)
    for model in server.models.values():
        warm_up(model)
    for line in where_to_look(server, host, port, loopback, token):
        say(line)
    try:
        http_server(make_app(server, rules, say if log else None)).run([listener])
    finally:
        server.stop()
        listener.close()


def http_server(app: Guard) -> uvicorn.Server:
    """What speaks HTTP for an application. It trusts no header about who asks, and writes nothing
    about requests but what fails inside."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=16 * 1024,  # of a request's head
    )
    return uvicorn.Server(config)


def warm_up(model: Served) -> None:
    """The first picture costs up to a second more than all others, so it is none of a client's."""
    blank = io.BytesIO()
    Image.new("RGB", (64, 64)).save(blank, "PNG")
    square = model.classifier.square(blank.getvalue())
    model.classifier.probabilities([square])
    if model.explains:
        grad_cam_png(model.classifier, square, None)


def where_to_look(server: Server, host: str, port: int, loopback: bool, token: str) -> list[str]:
    """What is said at the start: the models, the page's address, how to reach it from elsewhere."""
    models = ", ".join(f"{one.name} ({len(one.classes)} classes)" for one in server.models.values())
    shown = "localhost" if loopback else host
    if shown in ("0.0.0.0", "::"):  # noqa: S104  they stand for every address
        shown = socket.gethostname()
    query = f"?token={token}" if token else ""
    lines = [f"serving {models}", f"open http://{shown}:{port}/{query}"]
    if token:
        lines.append(f"programs send the header: Authorization: Bearer {token}")
    if "SSH_CONNECTION" in os.environ:
        words = os.environ["SSH_CONNECTION"].split()
        there = words[2] if len(words) == 4 else socket.gethostname()
        lines += [
            "this machine is remote, and browsers give the camera only to localhost; at yours:",
            f"  ssh -L {port}:localhost:{port} {getpass.getuser()}@{there}",
        ]
    return [*lines, "Ctrl-C stops it"]
