"""`alexnet serve`: runs as an HTTP API and as one page to try them on, in a browser."""

import errno
import getpass
import io
import ipaddress
import os
import secrets
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from alexnet.classification.predict import load
from alexnet.console import say
from alexnet.errors import InputError
from alexnet.serving.api import Server, make_app
from alexnet.serving.batching import Classifies, Served, grad_cam_png
from alexnet.serving.connections import http_server, listen
from alexnet.serving.guard import PREFIX, Authority, Front, Guard, Rules
from alexnet.values import Port, checked_arguments


def load_models(runs: Sequence[str | Path], device: str = "auto") -> dict[str, Classifies]:
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


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server listens, and who may ask it."""

    host: str = "127.0.0.1"  # the address; all but this machine's own make a token necessary
    port: int = 8000  # 0 for a free one
    token: str = ""  # what clients must know; made up and printed where one is necessary
    names: Sequence[str] = ()  # further host names the server is known by
    root_path: str = ""  # what a proxy puts before all paths, such as "/alexnet"
    behind_https: bool = False  # a proxy speaks https to the clients
    forwarded: bool = False  # believe X-Forwarded-Prefix and X-Forwarded-Proto, which a proxy sets
    log: bool = False  # say a line for every request

    def opened(self) -> "tuple[socket.socket, Rules]":
        """A listening socket, and the rules for who may ask there.

        Raises:
            InputError: the port is in use, the address not of this machine, or a name or a path
                none.
        """
        front = Front(prefix_of(self.root_path), self.behind_https, self.forwarded)
        known = {"localhost", self.host.lower(), *map(host_of, self.names)}
        try:
            listener = listen(self.host, self.port)
        except OSError as error:
            reasons = {
                errno.EADDRINUSE: ("is in use.", "Stop the other program, or give another --port."),
                errno.EACCES: ("is not allowed to you.", "Give a --port above 1023."),
            }
            what, hint = reasons.get(
                error.errno or 0,
                (f"cannot be used ({error.strerror}).", "Give an address of this machine."),
            )
            raise InputError(f"port {self.port} at {self.host} {what}", hint) from error
        address = listener.getsockname()[0]
        loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
        token = self.token or ("" if loopback else secrets.token_urlsafe(16))
        names_here = known if loopback else known | {socket.gethostname().lower()}
        return listener, Rules(loopback, frozenset(names_here), token, front)

    def run(self, listener: socket.socket, app: Guard, what: str) -> None:
        """Says `what` is served and where to look, and serves until it is stopped."""
        port = listener.getsockname()[1]
        for line in where_to_look(what, self.host, port, app.rules, self.names):
            say(line)
        with ends_with_0():
            http_server(app).run([listener])


@checked_arguments
def serve(
    runs: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: Port = 8000,
    token: str = "",
    names: Sequence[str] = (),
    root_path: str = "",
    behind_https: bool = False,
    forwarded: bool = False,
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
        root_path: what a proxy puts before all paths, such as "/alexnet".
        behind_https: a proxy speaks https to the clients.
        forwarded: believe X-Forwarded-Prefix and X-Forwarded-Proto, which a proxy sets.
        log: say a line for every request.
        device: as the recipe's field.

    Raises:
        InputError: the port is in use, the address not of this machine, or a name or a path none.
            RunError: no finished run.
    """
    place = Place(
        host=host, port=port, token=token, names=names, root_path=root_path,
        behind_https=behind_https, forwarded=forwarded, log=log,
    )  # fmt: skip
    models = load_models(runs, device)
    listener, rules = place.opened()
    server = Server(models)
    for model in server.models.values():
        warm_up(model)
    told = ", ".join(f"{one.name} ({len(one.classes)} classes)" for one in server.models.values())
    try:
        place.run(listener, make_app(server, rules, say if log else None), f"serving {told}")
    finally:
        server.stop()
        listener.close()


def prefix_of(root_path: str) -> str:
    """What stands before all paths, as the guard wants it.

    Raises:
        InputError: it is no path.
    """
    prefix = root_path.rstrip("/")
    if not PREFIX.fullmatch(prefix):
        raise InputError(
            f"root_path is {root_path!r}, expected a path such as /alexnet.",
            "It begins with a slash, and has letters, digits and . _ ~ - only.",
        )
    return prefix


def host_of(name: str) -> str:
    """A host name that was given, without a port.

    Raises:
        InputError: it is none.
    """
    try:
        return Authority.read(name).host
    except ValueError:
        raise InputError(
            f"name is {name!r}, expected a host name such as photos.example.",
            "Leave out http:// and whatever stands behind the name.",
        ) from None


@contextmanager
def ends_with_0() -> Iterator[None]:
    """SIGTERM is how servers are told to end; uvicorn finishes what is under way, and then passes
    the signal on to whoever handled it before."""

    def end(*_: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def warm_up(model: Served) -> None:
    """The first picture costs up to a second more than all others, so it is none of a client's."""
    blank = io.BytesIO()
    Image.new("RGB", (64, 64)).save(blank, "PNG")
    square = model.classifier.square(blank.getvalue())
    model.classifier.probabilities([square])
    if model.explains:
        grad_cam_png(model.classifier, square, None)


def where_to_look(
    what: str, host: str, port: int, rules: Rules, names: Sequence[str] = ()
) -> list[str]:
    """What is said at the start: what is served, the page's address, how to reach it from
    elsewhere."""
    token, front = rules.token, rules.front
    shown = "localhost" if rules.loopback else host
    if shown in ("0.0.0.0", "::"):  # noqa: S104  they stand for every address
        shown = socket.gethostname()
    address = f"http://{shown}:{port}"
    if front.https and names:  # clients see the proxy
        address = f"https://{names[0]}"
    query = f"?token={token}" if token else ""
    lines = [what, f"open {address}{front.prefix}/{query}"]
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
