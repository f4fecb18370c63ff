"""Files on whatever storage they lie on, through Hadoop's file system API.

A folder may hold thousands of files, and each question to the JVM takes a while: what is to be
known of files is fetched for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from pyspark.sql import SparkSession

_BETWEEN = "\0"
"""Which no name of a file may hold."""


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

    # To find a class by its name takes a call for each part of it.

    @cached_property
    def _paths(self) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path

    @cached_property
    def _iterators(self) -> Any:
        return self._jvm.org.apache.hadoop.util.functional.RemoteIterators

    @cached_property
    def _collections(self) -> Any:
        return self._jvm.org.apache.commons.collections4.CollectionUtils

    @cached_property
    def _transformers(self) -> Any:
        return self._jvm.org.apache.commons.collections4.TransformerUtils

    @cached_property
    def _strings(self) -> Any:
        return self._jvm.org.apache.hadoop.util.StringUtils

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

    def within(self, folder: str) -> list[File]:
        """The files of a folder itself; none where it does not exist."""
        return self._listed(folder, deep=False)

    def below(self, folder: str) -> list[File]:
        """The files of a folder and of those in it; none where it does not exist."""
        return self._listed(folder, deep=True)

    def _listed(self, folder: str, *, deep: bool) -> list[File]:
        if not self.exists(folder):
            return []
        found = self.system(folder).listFiles(self.hadoop_path(folder), deep)
        statuses = self._iterators.toList(found)
        if statuses.isEmpty():
            return []
        getters = ("getPath", "getLen", "getModificationTime")
        paths, sizes, changes = (self._of_each(statuses, getter) for getter in getters)
        return [
            File(path, int(size), datetime.fromtimestamp(int(changed) / 1000, UTC))
            for path, size, changed in zip(paths, sizes, changes, strict=True)
        ]

    def _of_each(self, statuses: Any, getter: str) -> list[str]:
        value = self._transformers.invokerTransformer(getter)
        values = self._collections.collect(statuses, value)
        joined: str = self._strings.join(_BETWEEN, values)
        return joined.split(_BETWEEN)

    def folders(self, parent: str) -> list[str]:
        """The folders in one; none where it does not exist."""
        if not self.exists(parent):
            return []
        inside = self.system(parent).listStatus(self.hadoop_path(parent))
        return [one.getPath().toString() for one in inside if one.isDirectory()]

    def remove(self, files: Iterable[File]) -> None:
        for file in files:
            self.system(file.path).delete(self.hadoop_path(file.path), False)

    def remove_folder(self, folder: str) -> None:
        self.system(folder).delete(self.hadoop_path(folder), True)

    def rename(self, path: str, name: str) -> None:
        """Raises `OSError` where the storage refuses it."""
        if not self.system(path).rename(self.hadoop_path(path), self.hadoop_path(name)):
            raise OSError(f"{name} was not written")

    def write_text(self, path: str, text: str) -> None:
        """Whole or not at all: written under a hidden name, it then takes the old one's place."""
        folder, name = path.rsplit("/", 1)
        hidden = f"{folder}/.{name}.new"
        stream = self.system(path).create(self.hadoop_path(hidden), True)
        try:
            stream.write(text.encode())
        finally:
            stream.close()
        self.system(path).delete(self.hadoop_path(path), False)
        self.rename(hidden, path)
