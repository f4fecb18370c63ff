"""What a session on one machine starts with, and when its queries are compiled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import runtime

CONF = str(runtime.PROJECT / "conf/base.toml")
COMPILING = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}


def test_java_maps_the_archive_of_classes_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "classes.jsa"
    monkeypatch.setattr(runtime, "CLASSES", archive)
    assert not [option for option in runtime._java_options(CONF) if str(archive) in option]
    archive.touch()
    [told] = [option for option in runtime._java_options(CONF) if str(archive) in option]
    assert told.startswith(f"-XX:SharedArchiveFile={archive} ")
    monkeypatch.setenv("SPARK_CONF_DIR", "what the user says")
    with runtime._conf_dir_of_archive():
        assert os.environ["SPARK_CONF_DIR"] == "what the user says"
    assert os.environ["SPARK_CONF_DIR"] == "what the user says"


def test_an_archive_is_of_a_class_path_without_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "CLASSES", tmp_path / "classes.jsa")
    runtime.CLASSES.touch()
    monkeypatch.delenv("SPARK_CONF_DIR", raising=False)
    with runtime._conf_dir_of_archive():
        assert os.environ["SPARK_CONF_DIR"] == str(runtime.NO_CONF)
    assert not runtime.NO_CONF.exists()
    assert "SPARK_CONF_DIR" not in os.environ


def test_queries_over_many_rows_are_compiled_and_the_others_as_before(spark: SparkSession) -> None:
    assert {name: spark.conf.get(name) for name in COMPILING} == COMPILING
    with runtime.compiled(spark):
        within = {name: spark.conf.get(name) for name in COMPILING}
    assert not within.items() & COMPILING.items()
    assert {name: spark.conf.get(name) for name in COMPILING} == COMPILING
