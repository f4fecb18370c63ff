"""One writer per warehouse: who holds it says so in a file below the restricted root.

The file is written anew every few seconds while its holder lives, and is whole at any moment. It
goes through Hadoop's file system API, like the tables themselves.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.sql import SparkSession

from jobs.files import Files
from transforms.errors import Refused

NAME = "_lease.json"
BEAT_S = 10.0
SILENT_AFTER = timedelta(seconds=12 * BEAT_S)
"""A holder that has said nothing for this long is dead, wherever it ran."""

_SETTLE_S = 0.3
_TRIES = 20


@dataclass(frozen=True)
class Holder:
    """Who writes to the warehouse, since when, and when it last said so (UTC, ISO 8601)."""

    token: str
    work: str
    host: str
    process: int
    since: str
    alive: str

    def is_dead(self) -> bool:
        """Its process is gone, as far as that can be seen from here, or it fell silent."""
        if self.host == socket.gethostname() and not _is_running(self.process):
            return True
        return _now() - datetime.fromisoformat(self.alive) > SILENT_AFTER

    def __str__(self) -> str:
        return f"{self.work} (process {self.process} on {self.host}), at work since {self.since}"


@contextmanager
def held(spark: SparkSession, root: str, *, work: str) -> Iterator[Callable[[], None]]:
    """Holds the lease of the warehouse at `root`; yields a check that it is still held.

    A dead holder's lease is taken over. Raises `Refused` naming the holder while it lives; so
    does the check, should another one have taken this lease for a dead one's.
    """
    file = _LeaseFile(spark, f"{root.rstrip('/')}/{NAME}")
    since = _now().isoformat(timespec="seconds")
    mine = Holder(uuid.uuid4().hex, work, socket.gethostname(), os.getpid(), since, since)
    _take(file, mine)
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(file, mine, ended), daemon=True)
    heart.start()
    try:
        yield lambda: _must_be_held(file, mine)
    finally:
        ended.set()
        heart.join()
        if _is_held(file, mine):
            file.remove()


def holder(spark: SparkSession, root: str) -> Holder | None:
    """Who is at work on the warehouse at `root`; None when nobody is, or who was has died."""
    found = _LeaseFile(spark, f"{root.rstrip('/')}/{NAME}").read()
    return None if found is None or found.is_dead() else found


def _take(file: _LeaseFile, mine: Holder) -> None:
    for _ in range(_TRIES):
        if file.create(mine):
            # Who found the same dead holder a moment ago may have put its own in place of ours.
            time.sleep(_SETTLE_S)
            return _must_be_held(file, mine)
        other = file.read()
        if other is not None and other.is_dead():
            file.remove()
        elif other is not None:
            raise _refusal(str(other))
        else:
            time.sleep(_SETTLE_S)  # it is being written, or has just been given back
    raise _refusal(f"a lease that can't be read, {file.path}")


def _beat(file: _LeaseFile, mine: Holder, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        with suppress(Py4JError):  # storage that fails now and then: the next one may come through
            if not _is_held(file, mine):
                return
            file.write(replace(mine, alive=_now().isoformat(timespec="seconds")))


def _is_held(file: _LeaseFile, mine: Holder) -> bool:
    holder = file.read()
    return holder is not None and holder.token == mine.token


def _must_be_held(file: _LeaseFile, mine: Holder) -> None:
    if not _is_held(file, mine):
        raise _refusal(str(file.read() or "another one"))


def _refusal(holder: str) -> Refused:
    return Refused(
        "warehouse",
        found=f"it held by {holder}",
        expected="one job at a time",
        consequence="nothing was written; start again when that one has ended",
    )


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now() -> datetime:
    return datetime.now(UTC)


class _LeaseFile:
    """The file on whatever storage the warehouse lies on."""

    def __init__(self, spark: SparkSession, path: str) -> None:
        jvm: Any = spark._jvm
        self.path = path
        self._files, self._jvm = Files(spark), jvm
        self._hadoop_path = self._files.hadoop_path(path)
        self._system = self._files.plain_system(path)

    def create(self, holder: Holder) -> bool:
        """False when there is one already, or ours was taken away while it was being made.

        The latter is what two do to each other that found the same dead holder: the storage may
        need more than one step for a file, and finds it gone at the second.
        """
        self._system.mkdirs(self._hadoop_path.getParent())
        try:
            self._put(holder, replaces=False)
        except Py4JJavaError as error:
            failure = str(error.java_exception)
            if any(sign in failure for sign in ("AlreadyExists", "FileNotFound", "No such file")):
                return False
            raise
        return True

    def write(self, holder: Holder) -> None:
        self._put(holder, replaces=True)

    def _put(self, holder: Holder, *, replaces: bool) -> None:
        """Full storage or a kill leaves the old one."""
        text, beside = json.dumps(asdict(holder)), f"{NAME}.{holder.token}"
        self._files.put(self.path, text, beside=beside, replaces=replaces)

    def read(self) -> Holder | None:
        """None while there is none, or where the storage needs more than one step, half of one."""
        for _ in range(_TRIES):
            if not self._system.exists(self._hadoop_path):
                return None
            try:
                stream = self._system.open(self._hadoop_path)
                text = bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
                stream.close()
                return Holder(**json.loads(text))
            except (Py4JJavaError, ValueError, TypeError):
                time.sleep(_SETTLE_S / _TRIES)
        return None

    def remove(self) -> None:
        """With what somebody who was killed has left beside it."""
        for found in self._system.listStatus(self._hadoop_path.getParent()):
            if found.getPath().getName().startswith(NAME):
                self._system.delete(found.getPath(), False)
