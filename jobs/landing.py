"""What the operator delivers, read where it lies and never copied."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, reduce
from itertools import accumulate
from typing import NamedTuple

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.files import File, Files
from jobs.frames import local_frame
from transforms import network, tables
from transforms.errors import Failed, FootfallError
from transforms.inputs import conformed, missing_columns
from transforms.settings import Input, Settings
from transforms.wording import shown


@dataclass(frozen=True)
class Events:
    """Event rows of the folders that may hold a local day, and the files they come from."""

    rows: DataFrame
    files: list[tuple[str, int]]
    folders_missing: list[str]


class EventFolder(NamedTuple):
    """One folder of events, by UTC date of arrival; `files` is None where it does not exist."""

    date: date
    path: str
    files: list[File] | None

    @property
    def lacking(self) -> str:
        """What there is in place of files."""
        return "no such folder" if self.files is None else "an empty folder"


@dataclass(frozen=True)
class Landing:
    """The landing folders of one installation."""

    spark: SparkSession
    settings: Settings

    def events(self, day: date) -> Events:
        """Rows of the folders of the UTC days before, on and after `day`, with `folder_date`.

        The day's own folder must be there; of the other two, what exists is read.
        """
        parts: list[DataFrame] = []
        files: list[tuple[str, int]] = []
        missing = []
        for folder in self.event_folders(day):
            if not folder.files and folder.date == day:
                raise Failed(
                    f"events of {day}",
                    found=folder.lacking,
                    expected=f"files in {folder.path}",
                    consequence="no event was read",
                )
            if not folder.files:
                missing.append(folder.path)
                continue
            parts.append(self.events_in(folder))
            files += [file.path_and_bytes for file in folder.files]
        return Events(reduce(DataFrame.unionByName, parts), files, missing)

    def event_folders(self, day: date) -> list[EventFolder]:
        """The folders of the UTC days before, on and after `day`, whether or not they are there."""
        return [self._event_folder(day + timedelta(days=shift)) for shift in (-1, 0, 1)]

    def _event_folder(self, day: date) -> EventFolder:
        path = self._path(self.settings.inputs.events, day)
        return EventFolder(day, path, self.files(path))

    def some_events(self, day: date, *, most_bytes: int) -> DataFrame:
        """Rows of the first files of the day's own folder, with `folder_date`: one file, or as many
        as are not larger than `most_bytes` together.
        """
        folder = self._event_folder(day)
        found = folder.files or []
        ends = accumulate(file.bytes for file in found)
        several = sum(end <= most_bytes for end in ends)
        return self.events_in(folder, files=[file.path for file in found[: max(several, 1)]])

    def events_in(self, folder: EventFolder, *, files: Sequence[str] = ()) -> DataFrame:
        """Rows of one folder, or of some of its files, with `folder_date`."""
        source = self.settings.inputs.events
        rows = self._frame("events", source, folder.path, tables.EVENTS, files=files)
        return rows.withColumn("folder_date", F.lit(folder.date))

    def rows(
        self,
        contract: tables.Input,
        *,
        day: date | None = None,
        optional: bool = False,
    ) -> DataFrame | None:
        """Rows of one input with the contract's columns; None for a folder without any file.

        A missing folder raises `Failed` unless it is `optional`.
        """
        if not self.delivered(contract, day=day, optional=optional):
            return None
        source: Input = getattr(self.settings.inputs, contract.name)
        return self._frame(contract.name, source, self._path(source, day), contract)

    def delivered(
        self,
        contract: tables.Input,
        *,
        day: date | None = None,
        optional: bool = False,
        error: type[FootfallError] = Failed,
    ) -> list[File]:
        """The files of one input. A missing folder raises `error` unless it is `optional`."""
        path = self._path(getattr(self.settings.inputs, contract.name), day)
        found = self.files(path)
        if found is None and not optional:
            raise error(
                contract.name,
                found="no such folder",
                expected=f"files in {path}",
                consequence="no event was read",
            )
        return found or []

    def rows_of(
        self,
        files: Collection[File],
        contract: tables.Input,
        *,
        error: type[FootfallError] = Failed,
    ) -> DataFrame:
        """Rows of some files of an input that is not kept by day."""
        source: Input = getattr(self.settings.inputs, contract.name)
        paths = [file.path for file in files]
        return self._frame(
            contract.name, source, self._path(source, None), contract, error, files=paths
        )

    def texts(self, name: str, *, suffix: str) -> list[tuple[str, str]]:
        """Name and text of each file of an input that ends in `suffix`, sorted by name."""
        path = self._path(getattr(self.settings.inputs, name), None)
        if not any(file.path.endswith(suffix) for file in self.files(path) or []):
            raise Failed(
                name,
                found="no such file",
                expected=f"*{suffix} in {path}",
                consequence="no event was read",
            )
        rows = (
            self.spark.read.format("binaryFile")
            .option("pathGlobFilter", f"*{suffix}")
            .load(path)
            .select("path", "content")
            .collect()
        )
        return sorted(
            (row.path.rsplit("/", 1)[-1], bytes(row.content).decode("utf-8", "replace"))
            for row in rows
        )

    def judged_cells(self, day: date) -> DataFrame:
        """Cells of `day`, and faulty rows; with fault. Raises `Failed` when there is no file."""
        return network.judged_cells(self._needed(tables.CELLS, day=day), day=day)

    def judged_residents(self) -> DataFrame:
        """area, residents, fault. Raises `Failed` when there is no file."""
        resolution = self.settings.people.catchment_resolution
        return network.judged_residents(self._needed(tables.RESIDENTS), resolution=resolution)

    def judged_subscribers(self, day: date) -> DataFrame:
        """Subscribers of `day`, and faulty rows; with fault. Raises `Failed` without any file."""
        return network.judged_subscribers(self._needed(tables.SUBSCRIBERS), day=day)

    def judged_contracts(self) -> DataFrame:
        """Subscribers of whatever day, with fault. Raises `Failed` when there is no file."""
        return network.judged_contracts(self._needed(tables.SUBSCRIBERS))

    def judged_outages(self) -> DataFrame:
        """cell_id, from, to, fault; the folder may be missing."""
        rows = self.rows(tables.OUTAGES, optional=True)
        if rows is None:
            rows = local_frame(self.spark, [], "cell_id string, from timestamp, to timestamp")
        return network.judged_outages(rows)

    def _needed(self, contract: tables.Input, *, day: date | None = None) -> DataFrame:
        rows = self.rows(contract, day=day)
        if rows is None:
            raise Failed(
                contract.name,
                found="no file",
                expected="at least one",
                consequence="no event was read",
            )
        return rows

    def reference_files(self, day: date) -> list[tuple[str, int]]:
        """Path and bytes of each file of the inputs other than the events."""
        inputs = self.settings.inputs
        others = [getattr(inputs, name) for name in type(inputs).model_fields if name != "events"]
        found = [file for one in others for file in self.files(self._path(one, day)) or []]
        return [file.path_and_bytes for file in found]

    def holds(self, folder: str, name: str) -> bool:
        """Whether a folder holds a file of that name, hidden or not."""
        return self._files.exists(f"{folder.rstrip('/')}/{name}")

    def files(self, path: str) -> list[File] | None:
        """The data files below `path`, in order; None when it does not exist."""
        if not self._files.exists(path):
            return None
        root = self._files.qualified(path)
        found = (
            (file, file.path.removeprefix(root).split("/")) for file in self._files.below(path)
        )
        return sorted(file for file, parts in found if not any(map(_is_hidden, parts)))

    @cached_property
    def _files(self) -> Files:
        return Files(self.spark)

    def _path(self, source: Input, day: date | None) -> str:
        relative = source.path.format(day=day) if day else source.path
        if relative.startswith("/") or "://" in relative:
            return relative
        return f"{self.settings.paths.landing.rstrip('/')}/{relative}"

    def _frame(
        self,
        name: str,
        source: Input,
        path: str,
        contract: tables.Input,
        error: type[FootfallError] = Failed,
        *,
        files: Sequence[str] = (),
    ) -> DataFrame:
        options = {"header": "true", **source.options} if source.format == "csv" else source.options
        reader = self.spark.read.format(source.format).options(**options)
        with readable(name, error=error):
            if files:
                frame = reader.option("basePath", path).load(list(files))
            else:
                frame = reader.load(path)
        missing = missing_columns(frame.columns, contract, source.columns)
        if missing:
            raise error(
                f"{name} in {path}",
                found=f"no column {', '.join(missing)} among {_named(frame.columns, source)}",
                expected="the columns of the contract, or their names in the settings",
                consequence="no row was read",
            )
        return conformed(frame, contract, source.columns)


def _is_hidden(name: str) -> bool:
    """Whether Spark passes over a file or folder of that name: a write that is not done, a sign."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _named(columns: Sequence[str], source: Input) -> str:
    """The columns found. The first line of a CSV without a header is a row: it is not shown."""
    return f"{len(columns)} columns" if source.format == "csv" else ", ".join(map(shown, columns))


@contextmanager
def readable(subject: str, *, error: type[FootfallError] = Failed) -> Iterator[None]:
    """Turns Spark's complaint about a file into an error that names the input."""
    try:
        yield
    except (PySparkException, Py4JError) as cause:
        reason = read_failure(cause)
        if reason is None:
            raise
        raise error(
            subject,
            found=reason,
            expected="files of the format named in the settings",
            consequence="nothing was published",
        ) from None


_READ_FAILURES = (
    "FAILED_READ_FILE",
    "CANNOT_READ_FILE_FOOTER",
    "UNABLE_TO_INFER_SCHEMA",
    "PATH_NOT_FOUND",
    "MALFORMED_RECORD_IN_PARSING",
    "DATA_SOURCE_NOT_FOUND",
    "PARQUET_TYPE_ILLEGAL",
    "FAILED_TO_PARSE",
    "is not a Parquet file",
    "Could not read footer",
)


def read_failure(cause: Exception) -> str | None:
    """What is wrong with a file that Spark could not read, without any value from it."""
    text = str(cause)
    if not any(sign in text for sign in _READ_FAILURES):
        return None
    words = [word.strip("'\"`,;:()") for word in text.split()]
    files = [word.rstrip(".") for word in words if word.startswith(("file:/", "hdfs:/", "s3"))]
    return f"an unreadable file {files[0]}" if files else "unreadable files"
