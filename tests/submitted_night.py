"""A whole night by spark-submit on a cluster that loses one of its two machines on the way, and
everything that the night leaves or had on its way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from deltalake import DeltaTable
from nbclient import NotebookClient

from jobs.keys import KEY_BYTES
from jobs.runtime import CLASSES, NO_CONF, archive_option
from tests.cluster import Cluster, standalone
from tests.hdfs import hdfs
from transforms.tables import NIGHTLY_PRODUCTS

PROJECT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
DAY = "2025-11-22"


def environment(**more: str) -> dict[str, str]:
    """This one, without what would lead the processes to the project by another way."""
    left_out = ("MAKEFLAGS", "MAKELEVEL", "PYTHONPATH", "SPARK_HOME", "PYSPARK_DRIVER_PYTHON")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"PYSPARK_PYTHON": sys.executable} | more


def ended(
    command: Sequence[str | Path], *, cwd: Path, timeout_s: float = 600, **more: str
) -> subprocess.CompletedProcess[str]:
    """A process that has ended; `more` joins its environment."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def package(folder: Path) -> Path:
    """The zip that executors get, made in `folder` as `make zip` makes it."""
    make = ["make", "--silent", "-o", ".venv/.ready", "zip", f"BUILD={folder}", f"DIST={folder}"]
    done = ended(make, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    return folder / "footfall.zip"


def gold_rows(published: Path) -> dict[str, int]:
    return {
        product.name: DeltaTable(str(published / product.table.path)).to_pyarrow_table().num_rows
        for product in NIGHTLY_PRODUCTS
    }


@dataclass
class Watch:
    """What came and went while a night ran: its keys, and the files of `folders`.

    A file is kept by a second name, which outlives the first and costs no copy. What lives
    shorter than the watch blinks may be missed.
    """

    keys_folder: Path
    folders: Sequence[Path]
    kept: Path
    keys: set[bytes] = field(default_factory=set)
    _known: set[int] = field(default_factory=set)

    def look(self) -> None:
        for file in self.keys_folder.glob("*.key"):
            with suppress(OSError):
                key = file.read_bytes()
                if len(key) == KEY_BYTES and any(key):  # zeros: it is just being destroyed
                    self.keys.add(key)
        for folder in self.folders:
            self._keep(folder)

    def _keep(self, folder: Path) -> None:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    self._keep(Path(entry.path))
                elif entry.is_file(follow_symlinks=False) and entry.inode() not in self._known:
                    with suppress(OSError):
                        os.link(entry.path, self.kept / f"{len(self._known):06}-{entry.name}")
                        self._known.add(entry.inode())


@contextmanager
def watching(look: Callable[[], None], *, every_s: float = 0.1) -> Iterator[None]:
    """Looks again and again, in a thread of its own, for as long as the context lasts."""
    over = threading.Event()

    def go_on_looking() -> None:
        while not over.wait(every_s):
            look()

    looking = threading.Thread(target=go_on_looking)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


@dataclass(frozen=True)
class Submitted:
    """A night that spark-submit ran, and where it left what."""

    stdout: str = field(repr=False)
    stderr: str = field(repr=False)
    landing: Path
    root: Path
    storage: str  # where its tables lay
    rights: Mapping[str, str]  # of the two roots there, as `ls` writes them
    cluster: Cluster = field(repr=False)
    watch: Watch = field(repr=False)

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def published(self) -> Path:
        return self.root / "published"

    @property
    def restricted(self) -> Path:
        return self.root / "restricted"

    @property
    def reports(self) -> Path:
        return self.root / "work/reports"

    @property
    def event_log(self) -> list[Path]:
        return sorted(path for path in (self.root / "eventlog").rglob("*") if path.is_file())

    @property
    def left_behind(self) -> list[Path]:
        """All that others than the job may come to see: what is sold, notebooks, logs, pages,
        temporary files.
        """
        names = ("published", "notebooks", "eventlog", "output", "work", "local", "tmp", "cluster")
        return [self.root / name for name in names]


ROOTS = ("restricted", "published")
LOST, LOST_AFTER = 1, "ingest reference"
"""The machine that is lost, and the step after which: while events are read and gathered."""


def submitted_night(landing: Path, root: Path, *, timeout_s: float) -> Submitted:
    """Runs a night on executors in processes of their own, started far from the project, and every
    notebook on what it published.

    Its tables lie on HDFS, and are copied from there when it has ended; other paths are relative to
    where it is started: no executor is there. Event log on and readable; temporary files of Spark,
    Java and Python each in a known folder.
    """
    for name in ("work", "eventlog", "output", "local", "tmp", "kept", "notebooks"):
        (root / name).mkdir()
    here = environment(TMPDIR=str(root / "tmp"))
    if CLASSES.exists():  # six JVMs start here
        here |= {"SPARK_CONF_DIR": str(NO_CONF), "SPARK_DAEMON_JAVA_OPTS": archive_option()}
    with (
        hdfs(root / "hdfs") as storage,
        standalone(root / "cluster", environment=here, memory_mib=2048) as cluster,
    ):
        command = [
            Path(sys.executable).parent / "spark-submit",
            *("--master", cluster.url),
            *(part for pair in spark_conf(root).items() for part in ("--conf", "=".join(pair))),
            *("--py-files", package(root), PROJECT / "jobs/run_night.py"),
            *("--conf", settings_of(root, storage.url), "--day", DAY),
            *("--landing", os.path.relpath(landing, root / "work")),
        ]
        folders = (root / "local", root / "tmp", *cluster.disks)
        watch = Watch(root / "keys", folders, root / "kept")
        output = root / "output/stdout"
        with (
            watching(watch.look),
            watching(Loss(cluster, output).look),
            output.open("wb") as stdout,
            (root / "output/stderr").open("wb") as stderr,
        ):
            done = subprocess.run(
                [str(part) for part in command],
                cwd=root / "work",
                env=here,
                stdout=stdout,
                stderr=stderr,
                timeout=timeout_s,
                check=False,
            )
        said = (root / "output/stderr").read_text("utf-8")
        assert done.returncode == 0, said[-4000:]
        rights = {name: storage.rights(f"/{name}") for name in ROOTS}
        for name in ROOTS:
            storage.copy(f"/{name}", root / name)
    for notebook in NOTEBOOKS:
        _execute(notebook, root / "notebooks", roots=root)
    return Submitted(
        output.read_text("utf-8"), said, landing, root, storage.url, rights, cluster, watch
    )


def spark_conf(root: Path) -> dict[str, str]:
    java = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=128m"  # a night fills the usual 48m
    java += f" -Djava.io.tmpdir={root / 'tmp'}"
    if CLASSES.exists():
        java += f" {archive_option()}"
    return {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": (root / "eventlog").as_uri(),
        "spark.eventLog.compress": "false",
        "spark.local.dir": str(root / "local"),
        "spark.executor.memory": "2g",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",  # frames are small here, plans are many
        "spark.driver.extraJavaOptions": java,
        "spark.executor.extraJavaOptions": java,
    }


def settings_of(root: Path, storage: str) -> Path:
    """Settings on this storage, with their base and profile beside them."""
    folder = root / "etc"
    folder.mkdir()
    for name in ("base.toml", "spark-local.conf", "log4j2.properties"):
        shutil.copy(PROJECT / "conf" / name, folder)
    lines = [f'{name} = "{storage}/{name}"' for name in ROOTS]
    lines += ['keys = "../keys"', 'reports = "reports"']
    (folder / "site.toml").write_text("\n".join(["[paths]", *lines]), encoding="utf-8")
    return folder / "site.toml"


@dataclass
class Loss:
    """Takes a machine away as soon as the night has come so far."""

    cluster: Cluster
    output: Path
    is_over: bool = False

    def look(self) -> None:
        if not self.is_over and LOST_AFTER in self.output.read_text("utf-8", "replace"):
            self.cluster.lose(LOST)
            self.is_over = True


def _execute(notebook: Path, folder: Path, *, roots: Path) -> None:
    """Writes the notebook with its outputs into `folder`, those of cells that failed, too."""
    content = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        content,
        timeout=300,
        allow_errors=True,
        resources={"metadata": {"path": str(notebook.parent)}},
    )
    paths = {f"FOOTFALL_{name.upper()}": str(roots / name) for name in ("published", "restricted")}
    client.execute(env=os.environ | paths)
    nbformat.write(content, folder / notebook.name)
