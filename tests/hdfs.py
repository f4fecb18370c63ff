"""Hadoop's file system on loopback: a name node and a data node in a JVM of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyspark
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

SPARKS_JARS = Path(pyspark.__file__).parent / "jars"
SERVERS = "ivy/jars/org.apache.hadoop_hadoop-client-minicluster-{version}.jar"
JAVA = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m"]


@dataclass(frozen=True)
class Hdfs:
    """A file system that is up."""

    url: str
    _jvm: Any = field(repr=False)
    _system: Any = field(repr=False)

    def rights(self, path: str) -> str:
        """As `ls` writes them: rwxr-x---."""
        return str(self._system.getFileStatus(self._path(path)).getPermission())

    def copy(self, path: str, to: Path) -> None:
        """A folder with all that is in it, byte by byte."""
        self._system.copyToLocalFile(False, self._path(path), self._path(to.as_uri()), True)

    def _path(self, path: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(path)


@contextmanager
def hdfs(folder: Path) -> Iterator[Hdfs]:
    """It lives as long as the context, its blocks and logs in `folder`."""
    folder.mkdir()
    with (folder / "hdfs.log").open("w", encoding="utf-8") as log, _jvm(log) as jvm:
        conf = jvm.org.apache.hadoop.conf.Configuration()
        conf.set("hdfs.minidfs.basedir", str(folder / "data"))
        servers = jvm.org.apache.hadoop.hdfs.MiniDFSCluster.Builder(conf).numDataNodes(1).build()
        try:
            servers.waitActive()
            system = servers.getFileSystem()
            yield Hdfs(str(system.getUri()), jvm, system)
        finally:
            servers.shutdown()


@contextmanager
def _jvm(log: Any) -> Iterator[Any]:
    """One that ends with its input: with the context, or with this process."""
    [client] = SPARKS_JARS.glob("hadoop-client-api-*.jar")
    version = client.stem.removeprefix("hadoop-client-api-")
    servers = Path(sys.prefix) / SERVERS.format(version=version)
    assert servers.exists(), f"{servers} is missing: Spark's Hadoop and tests/conf/jars.txt differ"
    port, process = launch_gateway(
        jarpath=str(next(SPARKS_JARS.glob("py4j-*.jar"))),
        classpath=os.pathsep.join([str(servers), str(SPARKS_JARS / "*")]),
        javaopts=JAVA,
        die_on_exit=True,
        redirect_stdout=log,
        redirect_stderr=log,
        return_proc=True,
    )
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auto_convert=True))
    try:
        yield gateway.jvm
    finally:
        gateway.close()
        process.stdin.close()
        process.wait(60)
