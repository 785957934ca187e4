"""Who writes where: one program at a time. Imports no torch."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from alexnet.atomic import writing
from alexnet.cache import cache_folder
from alexnet.errors import RunError


@contextlib.contextmanager
def one_at_a_time(path: Path, what: str) -> Iterator[None]:
    """While the block runs no other program of this user enters it with the same path. The lock
    lies in the cache, not in anybody's folder, and ends with the process, however it ends. Who
    held it stays noted there: it is read only while somebody holds it.

    Raises:
        RunError: another program is in it; says which. DiskError: the cache cannot be written.
    """
    from filelock import FileLock, Timeout  # not for those who only read

    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:24]
    lock, who = (cache_folder() / "locks" / f"{name}{ending}" for ending in (".lock", ".txt"))
    held = FileLock(lock, timeout=0)
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire()
        except Timeout as error:  # which is an OSError
            other = "another program"
            with contextlib.suppress(OSError):
                other = who.read_text(encoding="utf-8", errors="replace") or other
            raise RunError(
                f"{what} by {other}.", "Wait until it has ended, stop it, or choose another --out."
            ) from error
    try:
        with writing(who):
            who.write_text(f"process {os.getpid()}: {Path(sys.argv[0]).name}", encoding="utf-8")
        yield
    finally:
        held.release()
