"""Pseudonyms of the day, and the key they are made with: read where needed, then destroyed."""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs import keys
from jobs.frames import local_frame
from jobs.keys import KEY_BYTES, PLUGINS, KeyFile, KeyStore, key_store
from jobs.runtime import exit_codes
from transforms.errors import Misused, Refused
from transforms.pseudonyms import pseudonymised

DAY, NEXT_DAY = date(2026, 11, 23), date(2026, 11, 24)


def keyed(key: bytes) -> Callable[[], bytes]:
    """A reader of a key; plain enough for a worker that does not know these tests."""
    return partial(bytes.fromhex, key.hex())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------------------------- pseudonyms


@pytest.fixture(scope="module")
def people(spark: SparkSession) -> DataFrame:
    rows = [("mall", "491701234567", 1.0), ("mall", "491701234567", 0.5), ("plaza", "ÄÖ ü", 0.2)]
    return local_frame(spark, rows, "zone_id string, subscriber_id string, presence double")


def test_a_pseudonym_is_hmac_sha256_of_the_identity(spark: SparkSession) -> None:
    """RFC 4231, test case 2."""
    frame = local_frame(spark, [("what do ya want for nothing?",)], "subscriber_id string")
    row = pseudonymised(frame, read_key=keyed(b"Jefe")).first()
    assert row is not None
    assert row.pseudonym == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


def test_the_identity_is_replaced_and_all_else_stays(people: DataFrame) -> None:
    frame = pseudonymised(people, read_key=keyed(bytes(32)))
    assert frame.columns == ["pseudonym", "zone_id", "presence"]
    rows = sorted(frame.collect(), key=lambda row: row.presence, reverse=True)
    assert [tuple(row)[1:] for row in rows] == [("mall", 1.0), ("mall", 0.5), ("plaza", 0.2)]
    assert rows[0].pseudonym == rows[1].pseudonym != rows[2].pseudonym
    assert all(len(row.pseudonym) == 64 for row in rows)


def test_pseudonyms_of_two_days_share_nothing(people: DataFrame) -> None:
    days = [
        {row.pseudonym for row in pseudonymised(people, read_key=keyed(key * 32)).collect()}
        for key in (b"\x01", b"\x02")
    ]
    assert not days[0] & days[1]


def test_a_dictionary_of_plain_hashes_finds_no_pseudonym(people: DataFrame) -> None:
    found = {row.pseudonym for row in pseudonymised(people, read_key=keyed(b"k" * 32)).collect()}
    for name in ("sha256", "sha1", "md5", "sha512"):
        for identity in ("491701234567", "ÄÖ ü"):
            assert hashlib.new(name, identity.encode()).hexdigest()[:64] not in found


def test_the_key_is_no_part_of_the_plan_or_of_what_travels(
    people: DataFrame, tmp_path: Path
) -> None:
    key = KeyFile.of(str(tmp_path), DAY)
    key.make()
    frame = pseudonymised(people, read_key=key)
    frame.collect()
    plan = frame._jdf.queryExecution().toString()
    for spelling in (key().hex(), repr(key()), str(list(key()))):
        assert spelling not in plan
        assert spelling not in repr(key)
    assert key() not in pickle.dumps(key)


def test_the_key_is_read_where_the_work_happens_and_never_before(
    people: DataFrame, tmp_path: Path
) -> None:
    key = KeyFile.of(str(tmp_path), DAY)
    frame = pseudonymised(people, read_key=key)
    key.make()
    assert len(frame.collect()) == 3


# ----------------------------------------------------------------------------------------- keys


def test_a_key_is_for_its_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        key = KeyFile.of(str(tmp_path / "keys"), DAY)
        key.make()
    finally:
        os.umask(old)
    assert mode(tmp_path / "keys") == 0o700
    assert mode(Path(key.path)) == 0o600
    assert len(key()) == KEY_BYTES == 32


def test_a_folder_that_others_could_read_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o755)
    KeyFile.of(str(folder), DAY).make()
    assert mode(folder) == 0o700


def test_each_day_has_a_file_of_its_own(tmp_path: Path) -> None:
    one, other = KeyFile.of(str(tmp_path), DAY), KeyFile.of(str(tmp_path), NEXT_DAY)
    one.make()
    other.make()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2026-11-23.key", "2026-11-24.key"]
    assert one() != other()


def test_a_key_is_fresh_each_time_it_is_made(tmp_path: Path) -> None:
    key, seen = KeyFile.of(str(tmp_path), DAY), set()
    for _ in range(20):
        key.make()
        seen.add(key())
    assert len(seen) == 20
    assert bytes(KEY_BYTES) not in seen


def test_a_key_stays_the_same_until_it_is_made_anew(tmp_path: Path) -> None:
    key = KeyFile.of(str(tmp_path), DAY)
    key.make()
    assert key() == key() == KeyFile.of(str(tmp_path), DAY)()


@pytest.mark.parametrize("others", [0o640, 0o604, 0o660, 0o666, 0o620, 0o601])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, others: int) -> None:
    key = KeyFile.of(str(tmp_path), DAY)
    key.make()
    Path(key.path).chmod(others)
    with pytest.raises(Refused, match="found one that others can read"):
        key()


def test_a_key_in_a_folder_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    key = KeyFile.of(str(tmp_path / "keys"), DAY)
    key.make()
    (tmp_path / "keys").chmod(0o750)
    with pytest.raises(Refused, match="found one that others can read"):
        key()


@pytest.mark.parametrize("content", [b"", b"short", bytes(31), bytes(33)])
def test_a_key_of_the_wrong_length_is_refused(tmp_path: Path, content: bytes) -> None:
    key = KeyFile.of(str(tmp_path), DAY)
    key.make()
    Path(key.path).write_bytes(content)
    with pytest.raises(Refused, match="found one of the wrong length"):
        key()


def test_a_destroyed_key_is_gone_and_its_bytes_were_overwritten(tmp_path: Path) -> None:
    key = KeyFile.of(str(tmp_path), DAY)
    key.make()
    second_name = tmp_path / "second name"
    os.link(key.path, second_name)
    key.destroy()
    assert not Path(key.path).exists()
    assert second_name.read_bytes() == bytes(KEY_BYTES)
    with pytest.raises(Refused, match="key of the day 2026-11-23: found none"):
        key()


def test_destroying_twice_equals_once(tmp_path: Path) -> None:
    key = KeyFile.of(str(tmp_path), DAY)
    key.destroy()
    key.make()
    key.destroy()
    key.destroy()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_key_ends_a_job_with_3_and_tells_no_more_than_the_day(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with exit_codes() as ending:
        KeyFile.of(str(tmp_path), DAY)()
    assert ending.code == 3
    assert capsys.readouterr().err == (
        "error: key of the day 2026-11-23: found none, expected 32 bytes that only the job can "
        "read; nobody is counted and nothing was released\n"
    )


# ------------------------------------------------------------------------------- other key stores


class Vault:
    """A key management service, as small as one can be."""

    def __init__(self, *, folder: str, day: date) -> None:
        self.name = f"{folder}#{day}"

    def make(self) -> None:
        """Made there."""

    def __call__(self) -> bytes:
        return b"v" * KEY_BYTES

    def destroy(self) -> None:
        """Destroyed there."""


class Plugin:
    name = "vault"

    def load(self) -> type[Vault]:
        return Vault


def test_the_settings_choose_where_the_key_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "entry_points", lambda group: [Plugin()] if group == PLUGINS else [])
    assert key_store("file", folder=str(tmp_path), day=DAY) == KeyFile.of(str(tmp_path), DAY)
    vault: KeyStore = key_store("vault", folder=str(tmp_path), day=DAY)
    assert isinstance(vault, Vault)
    assert vault.name == f"{tmp_path}#2026-11-23"
    with pytest.raises(Misused, match=r"keys\.store: found 'safe', expected one of file, vault"):
        key_store("safe", folder=str(tmp_path), day=DAY)
