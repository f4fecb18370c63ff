"""Files on whatever storage they lie on, through Hadoop's file system API."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

_WITH_RIGHTS = ("file", "hdfs")
"""Schemes of storage that tells an owner, a group and others apart."""


@dataclass(frozen=True, order=True)
class File:
    """One file as it lies there now: written anew, it is another one."""

    path: str
    bytes: int
    modified_at: datetime

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def path_and_bytes(self) -> tuple[str, int]:
        return self.path, self.bytes


@dataclass(frozen=True)
class Files:
    """What a session's storage holds, by path or address."""

    spark: SparkSession

    @cached_property
    def _jvm(self) -> Any:
        return self.spark._jvm

    @cached_property
    def _conf(self) -> Any:
        return self.spark._jsc.hadoopConfiguration()

    @cached_property
    def _paths(self) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path

    def hadoop_path(self, path: str) -> Any:
        return self._paths(path)

    def system(self, path: str) -> Any:
        """Hadoop's file system that the path lies on."""
        return self.hadoop_path(path).getFileSystem(self._conf)

    def qualified(self, path: str) -> str:
        """As the files below it are named."""
        return str(self.system(path).makeQualified(self.hadoop_path(path)).toString())

    def exists(self, path: str) -> bool:
        return bool(self.system(path).exists(self.hadoop_path(path)))

    def make_folder(self, path: str, *, mode: str) -> None:
        """mode: rights of its owner, its group and others in octal, less what the umask takes."""
        rights = self._jvm.org.apache.hadoop.fs.permission.FsPermission(mode)
        self.system(path).mkdirs(self.hadoop_path(path), rights)

    def others_may_enter(self, path: str) -> bool:
        """Whether any user has a right to the folder, where the storage tells users apart."""
        system = self.system(path)
        rights = system.getFileStatus(self.hadoop_path(path)).getPermission().getOtherAction()
        return system.getScheme() in _WITH_RIGHTS and str(rights.name()) != "NONE"

    def number_below(self, folder: str) -> int:
        """How many files there are in a folder that exists and in those in it, asked at once: to
        fetch the name of each of a thousand takes a second.
        """
        return int(self.system(folder).getContentSummary(self.hadoop_path(folder)).getFileCount())

    def below(self, folder: str) -> list[File]:
        """The files of a folder and of those in it; none where it does not exist."""
        if not self.exists(folder):
            return []
        listing, found = self.system(folder).listFiles(self.hadoop_path(folder), True), []
        while listing.hasNext():
            found.append(_file(listing.next()))
        return found

    def matching(self, folder: str, pattern: str) -> list[File]:
        """Files of a folder whose name matches; hidden ones only where the pattern says so."""
        literally = re.sub(r"([\\*?{}\[\]])", r"\\\1", folder)
        path = self.hadoop_path(f"{literally}/{pattern}")
        found = self.system(folder).globStatus(path) or []
        return [_file(one) for one in found if one.isFile()]

    def folders(self, parent: str) -> list[str]:
        """The folders in one; none where it does not exist."""
        if not self.exists(parent):
            return []
        inside = self.system(parent).listStatus(self.hadoop_path(parent))
        return [one.getPath().toString() for one in inside if one.isDirectory()]

    def remove(self, files: Iterable[File]) -> None:
        for file in files:
            self.system(file.path).delete(self.hadoop_path(file.path), False)

    def remove_if_empty(self, folder: str) -> None:
        system, path = self.system(folder), self.hadoop_path(folder)
        if not system.listStatus(path):
            system.delete(path, False)

    def remove_folder(self, folder: str) -> None:
        self.system(folder).delete(self.hadoop_path(folder), True)

    def rename(self, path: str, name: str) -> None:
        """Raises `OSError` where the storage refuses it."""
        if not self.system(path).rename(self.hadoop_path(path), self.hadoop_path(name)):
            raise OSError(f"{name} was not written")

    def put(
        self, path: str, text: str, *, beside: str | None = None, replaces: bool = True
    ) -> None:
        """Writes a whole file or none: under a name `beside` it, a hidden one if not told, and then
        in one step under its own. Nothing is left beside it where that fails.

        Raises `Py4JJavaError`, with Hadoop's FileAlreadyExistsException for a file that is there
        and may not be replaced.
        """
        folder, name = path.rsplit("/", 1)
        made = self.hadoop_path(f"{folder}/{beside or f'.{name}.new'}")
        system = self.plain_system(path)
        try:
            stream = system.create(made, True)
            try:
                stream.write(text.encode())
            finally:
                stream.close()
            self._move(made, path, replaces=replaces)
        except Py4JJavaError:
            system.delete(made, False)
            raise

    def _move(self, made: Any, path: str, *, replaces: bool) -> None:
        system, there = self.system(path), self.hadoop_path(path)
        if replaces and _is_local(system):
            # In one step, which a local disk's FileContext has not.
            self.plain_system(path).rename(made, there)
            return
        gateway: Any = self.spark._sc._gateway
        kind = getattr(self._jvm.org.apache.hadoop.fs, "Options$Rename")
        options = gateway.new_array(kind, 1)
        options[0] = kind.OVERWRITE if replaces else kind.NONE
        contexts = self._jvm.org.apache.hadoop.fs.FileContext
        contexts.getFileContext(system.getUri(), self._conf).rename(made, there, options)

    def plain_system(self, path: str) -> Any:
        """As `system`, but on a local disk without checksum files: these can't be put in place
        together with what they are about.
        """
        system = self.system(path)
        return system.getRawFileSystem() if _is_local(system) else system


def _is_local(system: Any) -> bool:
    return str(system.getScheme()) == "file"


def _file(status: Any) -> File:
    changed = datetime.fromtimestamp(status.getModificationTime() / 1000, UTC)
    return File(status.getPath().toString(), int(status.getLen()), changed)
