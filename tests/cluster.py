"""A standalone Spark cluster on loopback: a master and two workers, each a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyspark

SPARK_CLASS = Path(pyspark.__file__).resolve().parent / "bin/spark-class"
DEPLOY = "org.apache.spark.deploy"
UP_WITHIN_S = 60.0
_ADDRESS = re.compile(r"spark://127\.0\.0\.1:\d+")


@dataclass(frozen=True)
class Cluster:
    """Where drivers find it, and its workers. Each has one core and a local disk of its own."""

    url: str
    workers: tuple[subprocess.Popen[bytes], ...]
    folder: Path

    @property
    def disks(self) -> list[Path]:
        """Where executors keep what they shuffle and cache, by worker."""
        return [self.folder / f"local-{number}" for number in range(len(self.workers))]

    @property
    def logs_of_executors(self) -> list[Path]:
        return sorted((self.folder / "work").glob("app-*/*/stderr"))

    def lose(self, number: int) -> None:
        """A machine is gone: its worker and the executors on it, all at once."""
        worker = psutil.Process(self.workers[number].pid)
        for process in [*worker.children(recursive=True), worker]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)


@contextmanager
def standalone(
    folder: Path, *, environment: Mapping[str, str], memory_mib: int, workers: int = 2
) -> Iterator[Cluster]:
    """The cluster lives as long as the context; its logs lie in `folder`."""
    folder.mkdir()
    address = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str, **more: str) -> Path:
        log = folder / f"{name}.log"
        command = [str(SPARK_CLASS), f"{DEPLOY}.{arguments[0]}", *arguments[1:], *address]
        here = {**environment, "SPARK_LOCAL_IP": "127.0.0.1", **more}
        with log.open("wb") as file:
            process = subprocess.Popen(command, env=here, stdout=file, stderr=file, cwd=folder)
        started.append(process)
        return log

    try:
        url = said(start("master", "master.Master"), _ADDRESS)
        limits = ["--cores", "1", "--memory", f"{memory_mib}m", "--work-dir", str(folder / "work")]
        for number in range(workers):
            disk = folder / f"local-{number}"
            disk.mkdir()
            start(f"worker-{number}", "worker.Worker", *limits, url, SPARK_LOCAL_DIRS=str(disk))
        for number in range(workers):
            said(folder / f"worker-{number}.log", re.compile("Successfully registered with master"))
        yield Cluster(url, tuple(started[1:]), folder)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def said(log: Path, pattern: re.Pattern[str]) -> str:
    """What the process says once it is up. Raises `TimeoutError` when it does not."""
    give_up_at = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < give_up_at:
        found = pattern.search(log.read_text("utf-8", "replace"))
        if found:
            return found[0]
        time.sleep(0.1)
    raise TimeoutError(f"{log.name}: {log.read_text('utf-8', 'replace')[-2000:]}")
