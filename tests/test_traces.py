"""The search for traces: every form of an identity, a pseudonym and a key, whatever holds it."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.traces import (
    Search,
    forms_of_identity,
    forms_of_pseudonym,
    forms_of_secret,
    search_for,
)
from transforms.errors import Failed

SOMEONE, ANOTHER = "49170555000147", "O'Neill & Sön/7"
PSEUDONYM = hashlib.sha256(b"pseudonym").hexdigest()
KEY = hashlib.sha256(b"key of the day").digest()
SHA256 = hashlib.sha256(SOMEONE.encode()).digest()
MD5 = hashlib.md5(SOMEONE.encode()).digest()

WRITTEN: dict[str, bytes] = {
    "an identity": SOMEONE.encode(),
    "an identity in JSON": json.dumps({"id": ANOTHER}).encode(),
    "an identity in HTML": b"<td>O&#x27;Neill &amp; S\xc3\xb6n/7</td>",
    "an identity in a path": b"date=1/O%27Neill%20%26%20S%C3%B6n/7",
    "SHA-256": SHA256,
    "SHA-256 in hex": SHA256.hex().encode(),
    "SHA-256 in capitals": SHA256.hex().upper().encode(),
    "SHA-256 in base64": base64.b64encode(SHA256),
    "SHA-256 in base64 for addresses": base64.urlsafe_b64encode(SHA256),
    "MD5": MD5,
    "MD5 in hex": MD5.hex().encode(),
    "MD5 in base64": base64.b64encode(MD5),
    "a pseudonym": PSEUDONYM.encode(),
    "a pseudonym in bytes": bytes.fromhex(PSEUDONYM),
    "a pseudonym in base64": base64.b64encode(bytes.fromhex(PSEUDONYM)),
    "a key": KEY,
    "a key in hex": KEY.hex().encode(),
    "a key in base64": base64.b64encode(KEY),
    "a key in the midst of base64": base64.b64encode(b"?" + KEY + b"!"),
    "a key in the midst of base64, out of step by two": base64.b64encode(b"??" + KEY),
    "a key as a list": json.dumps(list(KEY)).encode(),
    "a key as Java shows it": str([n - 256 if n > 127 else n for n in KEY]).encode(),
    "the first half of a key": KEY[:16].hex().encode(),
    "the other half of a key": KEY[16:].hex().encode(),
}


@pytest.fixture(scope="module")
def search() -> Search:
    identities = (form for one in (SOMEONE, ANOTHER) for form in forms_of_identity(one))
    return search_for([*identities, *forms_of_pseudonym(PSEUDONYM), *forms_of_secret(KEY)])


@pytest.mark.parametrize("form", WRITTEN)
def test_each_form_is_found_wherever_the_blocks_are_cut(search: Search, form: str) -> None:
    text = b"before " + WRITTEN[form] + b" after"
    once = search.hits([text])
    assert once >= 1
    for cut in range(len(text) + 1):
        assert search.hits([text[:cut], text[cut:]]) == once
    assert search.hits(text[i : i + 1] for i in range(len(text))) == once


@settings(deadline=None)
@given(
    parts=st.lists(st.sampled_from([*WRITTEN.values(), b"1", b"no trace", b" "]), max_size=6),
    size=st.integers(1, 80),
)
def test_the_size_of_blocks_changes_no_count(search: Search, parts: list[bytes], size: int) -> None:
    text = b"".join(parts)
    blocks = [text[i : i + size] for i in range(0, len(text), size)]
    assert search.hits(blocks) == search.hits([text])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        SOMEONE[:-1].encode(),
        b"1" + SOMEONE.encode(),
        b"0.83" + SOMEONE.encode() + b"12",
        SOMEONE.encode() + b"5",
        hashlib.sha256(b"somebody else").hexdigest().encode(),
        KEY[1:16] + KEY[:15],
    ],
)
def test_nothing_is_found_where_nobody_is(search: Search, text: bytes) -> None:
    assert search.hits([text]) == 0


# --- files --------------------------------------------------------------------------------------

CONTENT = b"nothing\n" * 2000 + SOMEONE.encode() + b"\n" + b"nothing\n" * 2000


def lz4(content: bytes) -> bytes:
    """As Spark writes shuffle files: blocks of their own, an empty one at the end of a stream."""
    stream = b""
    for block in [content[i : i + 9000] for i in range(0, len(content), 9000)] + [b""]:
        packed = pa.compress(block, codec="lz4_raw", asbytes=True) if block else b""
        sizes = len(packed).to_bytes(4, "little") + len(block).to_bytes(4, "little")
        stream += b"LZ4Block" + b"\x25" + sizes + bytes(4) + packed
    return stream


def parquet(path: Path) -> None:
    columns = {
        "nested": pa.array([[{"by": "no one"}], [{"by": SOMEONE}]]),
        "number": pa.array([1, int(SOMEONE)]),
        "key": pa.array([None, [(SOMEONE, 1)]], pa.map_(pa.string(), pa.int64())),
        "value": pa.array([[("by", SOMEONE)]], pa.map_(pa.string(), pa.string())),
    }
    for name, column in columns.items():
        pq.write_table(pa.table({"x": column}), path.with_suffix(f".{name}"), compression="zstd")


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("some.txt", CONTENT)


PACKED: dict[str, Callable[[Path], object]] = {
    "as it is": lambda path: path.write_bytes(CONTENT),
    "gzip": lambda path: path.write_bytes(gzip.compress(CONTENT)),
    "bzip2": lambda path: path.write_bytes(bz2.compress(CONTENT)),
    "xz": lambda path: path.write_bytes(lzma.compress(CONTENT)),
    "zstd": lambda path: path.write_bytes(pa.compress(CONTENT, codec="zstd", asbytes=True)),
    "lz4 of Spark": lambda path: path.write_bytes(lz4(b"nothing") + lz4(CONTENT)),
    "zip": zipped,
    "Parquet": parquet,
}


@pytest.mark.parametrize("packing", PACKED)
def test_it_is_found_in_files_whatever_their_packing(
    search: Search, packing: str, tmp_path: Path
) -> None:
    PACKED[packing](tmp_path / "file")
    found = search.through([tmp_path])
    assert found.files >= 1
    assert found.not_looked_into == ()
    assert [trace.path for trace in found.traces] == sorted(tmp_path.iterdir())


def test_names_of_files_and_folders_count_and_are_blotted_out(
    search: Search, tmp_path: Path
) -> None:
    (tmp_path / f"id={SOMEONE}").mkdir()
    (tmp_path / f"id={SOMEONE}/part-1").write_bytes(b"nothing")
    (tmp_path / f"of-{MD5.hex()}.txt").write_bytes(b"nothing")
    found = search.through([tmp_path])
    assert len(found.traces) == found.hits == 2
    assert SOMEONE not in f"{found}"
    assert MD5.hex()[:16] not in f"{found}"


def test_what_was_found_says_nothing_of_whom(search: Search, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\n".join(WRITTEN.values()))
    said = f"{search}{search.through([tmp_path])}".lower()
    assert not [form for form, text in WRITTEN.items() if text.decode("latin-1").lower() in said]


CLOSED = {
    "cut short": gzip.compress(CONTENT)[:-9],
    "damaged": b"PAR1 and no more",
    "of a kind unknown to the search": b"\x82SNAPPY\x00" + bytes(30),
}


# By name: what is packed holds the time, and two processes must name their tests alike.
@pytest.mark.parametrize("why", CLOSED)
def test_a_file_that_cannot_be_looked_into_is_named(
    search: Search, why: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(CLOSED[why])
    found = search.through([tmp_path])
    assert [named.split(": ")[0] for named in found.not_looked_into] == [f"{tmp_path.name}/file"]


def test_what_begins_like_gzip_by_chance_is_no_reason_for_doubt(
    search: Search, tmp_path: Path
) -> None:
    """Encrypted files begin with any two bytes, one in 65,536 with these."""
    (tmp_path / "shuffle.data").write_bytes(b"\x1f\x8b\x93" + bytes(range(256)))
    assert search.through([tmp_path]).not_looked_into == ()


def test_who_searches_nothing_is_told_so(search: Search, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="nothing was proven"):
        search.through([tmp_path / "not there"])
    with pytest.raises(ValueError, match="search for nothing"):
        search_for([])
    with pytest.raises(ValueError, match="blank identity"):
        forms_of_identity(" ")
    with pytest.raises(ValueError, match="by chance"):
        forms_of_secret(KEY[:31])
