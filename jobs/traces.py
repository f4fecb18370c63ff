"""Traces of people: which files still hold an identity, a digest of one, or a key.

Written for whoever must show that nothing is left: the search tells files and numbers of hits,
never what was hit. A digest counts as a trace, since whoever tries all numbers undoes it.

All patterns are searched in one pass (Aho-Corasick), so the time grows with the files and hardly
with the number of people: 50,000 of them in all forms are an automaton of some 200 MiB, and files
are read in blocks, whatever their size.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import html
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote

import ahocorasick
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import Failed

ENOUGH = 16
"""Characters of a digest that are searched: no other text begins like that by chance."""
_BLOCK = 1 << 22


class Needle(NamedTuple):
    """What is searched; case counts for nothing.

    `whole`: digits at its ends are not found inside a longer number. Among the digits of some
    hundred thousand fractions a telephone number would turn up by chance.
    """

    text: bytes
    whole: bool = False


# --- forms ------------------------------------------------------------------------------------


def forms_of_identity(identity: str) -> set[Needle]:
    """An identity as text and in JSON, HTML or a path; its SHA-256 and MD5: bytes, hex, base64."""
    if not identity.strip():
        raise ValueError("a blank identity would be found everywhere")
    spellings = (identity, json.dumps(identity)[1:-1], html.escape(identity), quote(identity))
    found = {Needle(spelling.encode(), whole=True) for spelling in spellings}
    for name in ("sha256", "md5"):
        digest = hashlib.new(name, identity.encode(), usedforsecurity=False).digest()
        found.add(Needle(digest[:ENOUGH]))
        found |= {Needle(text[:ENOUGH]) for text in (digest.hex().encode(), *_base64(digest))}
    return found


def forms_of_pseudonym(pseudonym: str) -> set[Needle]:
    """A pseudonym of 64 hex digits as text, as bytes, in base64."""
    raw = bytes.fromhex(pseudonym)
    return {Needle(text[:ENOUGH]) for text in (raw.hex().encode(), raw, *_base64(raw))}


def forms_of_secret(secret: bytes) -> set[Needle]:
    """A key as bytes, hex, base64 (also in the midst of more) and lists of numbers; each half
    of it alone, too.
    """
    if len(secret) < 2 * ENOUGH:
        raise ValueError(f"a key of less than {2 * ENOUGH} bytes would be found by chance")
    found = set()
    for half in (secret[:ENOUGH], secret[ENOUGH : 2 * ENOUGH]):
        signed = [byte - 256 if byte > 127 else byte for byte in half]
        lists = [between.join(map(str, n)) for n in (half, signed) for between in (",", ", ")]
        found |= {Needle(half), Needle(half.hex().encode())}
        found |= {Needle(numbers.encode(), whole=True) for numbers in lists}
        for before in range(3):  # three bytes are four characters: three ways to be in step
            shared = -(-before * 8 // 6)  # characters that what lies before has a part in
            for text in _base64(bytes(before) + half):
                found.add(Needle(text[shared : shared + ENOUGH]))
    return found


def _base64(raw: bytes) -> tuple[bytes, bytes]:
    return base64.b64encode(raw), base64.urlsafe_b64encode(raw)


# --- search -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trace:
    """Hits in the name and the content of one file or folder.

    `name` is fit to be shown: hits in it are blotted out. In Parquet, a hit may count as bytes
    and as a value.
    """

    path: Path = field(repr=False)
    name: str
    hits: int

    def __str__(self) -> str:
        return f"{self.name}: {self.hits}"


@dataclass(frozen=True)
class Found:
    """What a search came to: all files were read, but not all could be looked into."""

    files: int
    traces: tuple[Trace, ...]
    not_looked_into: tuple[str, ...]

    @property
    def hits(self) -> int:
        return sum(trace.hits for trace in self.traces)


@dataclass(frozen=True)
class Search:
    """Patterns, ready to be searched any number of times; `search_for` makes it."""

    automaton: ahocorasick.Automaton = field(repr=False)
    longest: int

    def through(self, folders: Iterable[Path]) -> Found:
        """Names and contents of all files below `folders` (or files). Raises `Failed` where
        there is none: who searches nothing finds nothing.
        """
        files, traces, closed = 0, [], []
        for folder in folders:
            if not folder.exists():
                raise Failed(
                    f"search of {self._shown(str(folder))}",
                    found="nothing there",
                    expected="a folder or a file",
                    consequence="nothing was proven",
                )
            for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
                name = path.name if path == folder else str(path.relative_to(folder.parent))
                hits = self.hits([path.name.encode()])
                if path.is_file():
                    files += 1
                    in_content, why = self._in_file(path)
                    hits += in_content
                    closed += [f"{self._shown(name)}: {why}"] if why else []
                if hits:
                    traces.append(Trace(path, self._shown(name), hits))
        return Found(files, tuple(traces), tuple(closed))

    def hits(self, blocks: Iterable[bytes]) -> int:
        """Hits in one content that arrives in blocks."""
        hits, carried, begins, counted = 0, "", 0, 0
        for block in blocks:
            text = carried + block.lower().decode("latin-1")
            known = len(text) - 1  # what follows the last character may make a number longer
            ends = [end for _, end in self._spans(text) if end <= known]
            hits += sum(begins + end > counted for end in ends)
            counted = begins + known
            carried = text[-(self.longest + 2) :]
            begins += len(text) - len(carried)
        return hits + sum(begins + end > counted for _, end in self._spans(carried))

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Start and end (exclusive) of each hit in lower-case text."""
        for last, (length, whole) in self.automaton.iter(text):
            start, end = last - length + 1, last + 1
            if whole:
                goes_on_before = start > 0 and text[start - 1 : start + 1].isdecimal()
                goes_on_after = end < len(text) and text[end - 1 : end + 1].isdecimal()
                if goes_on_before or goes_on_after:
                    continue
            yield start, end

    def _shown(self, name: str) -> str:
        """A name without what was searched; bytes and characters may differ in number, so all
        of a name that is not plain ASCII is blotted out.
        """
        lowered = name.encode().lower().decode("latin-1")
        spans = list(self._spans(lowered))
        if spans and not name.isascii():
            return "…"
        for start, end in sorted(spans, reverse=True):
            name = name[:start] + "…" * (end - start) + name[end:]
        return name

    def _in_file(self, path: Path) -> tuple[int, str | None]:
        try:
            with path.open("rb") as file:
                return self._in_content(file)
        except FileNotFoundError:
            return 0, "gone before it was read"

    def _in_content(self, file: IO[bytes]) -> tuple[int, str | None]:
        """Hits in the bytes and in what they stand for; why that was not looked into, if so."""
        start = file.read(max(map(len, _PACKED)))
        file.seek(0)
        hits = self.hits(iter(lambda: file.read(_BLOCK), b""))
        kind = next((kind for magic, kind in _PACKED.items() if start.startswith(magic)), None)
        if kind is None:
            return hits, None
        file.seek(0)
        if isinstance(kind, str):
            return hits, kind
        try:
            for content in kind(file):
                hits += self.hits(content)
        except _DAMAGE as error:
            return hits, f"damaged or cut short ({type(error).__name__})"
        return hits, None


def search_for(needles: Iterable[Needle]) -> Search:
    """Raises ValueError without any needle."""
    automaton, longest = ahocorasick.Automaton(ahocorasick.STORE_ANY), 0
    for needle in needles:
        text = needle.text.lower().decode("latin-1")
        automaton.add_word(text, (len(text), needle.whole))
        longest = max(longest, len(text))
    if not longest:
        raise ValueError("a search for nothing finds nothing")
    automaton.make_automaton()
    return Search(automaton, longest)


# --- what files stand for ---------------------------------------------------------------------

Contents = Iterator[Iterable[bytes]]


def _parquet(file: IO[bytes]) -> Contents:
    """All values as text, also those inside lists, maps and structs."""
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(batch_size=1 << 15):
            for column in batch.columns:
                for leaf in _leaves(column):
                    yield (b"\n".join(_texts(leaf)),)


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        yield from _leaves(array.storage)
    elif pa.types.is_dictionary(kind):
        yield from _leaves(array.dictionary_decode())
    elif pa.types.is_struct(kind):
        for child in array.flatten():
            yield from _leaves(child)
    elif pa.types.is_map(kind):
        for child in (array.keys, array.items):
            yield from _leaves(child)
    elif pa.types.is_nested(kind):
        yield from _leaves(array.flatten())
    else:
        yield array


def _texts(leaf: pa.Array) -> Iterator[bytes]:
    kind = leaf.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (is_text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        leaf = pa.array([None if one is None else str(one) for one in leaf.to_pylist()], "string")
    return (one for one in leaf.cast(pa.large_binary()).to_pylist() if one is not None)


def _zip(file: IO[bytes]) -> Contents:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            yield (member.filename.encode(),)
            with archive.open(member) as content:
                yield _blocks(content)


def _lz4(file: IO[bytes]) -> Contents:
    """Spark's shuffle and event-log files: blocks, each with a header of 21 bytes."""

    def blocks() -> Iterator[bytes]:
        while header := file.read(21):
            if header[:8] != b"LZ4Block" or len(header) < 21:
                raise EOFError("not a block")
            packed, unpacked = (int.from_bytes(header[at : at + 4], "little") for at in (9, 13))
            content = file.read(packed)
            if header[8] & 0xF0 == 0x10 or not unpacked:
                yield content  # stored as it is
            else:
                yield pa.Codec("lz4_raw").decompress(content, unpacked, asbytes=True)

    yield blocks()


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _by(unpacked: Callable[[IO[bytes]], IO[bytes]]) -> Callable[[IO[bytes]], Contents]:
    def contents(file: IO[bytes]) -> Contents:
        with unpacked(file) as content:
            yield _blocks(content)

    return contents


_PACKED: dict[bytes, Callable[[IO[bytes]], Contents] | str] = {
    b"PAR1": _parquet,
    b"PK\x03\x04": _zip,
    b"LZ4Block": _lz4,
    b"\x1f\x8b\x08": _by(lambda file: gzip.GzipFile(fileobj=file)),  # type: ignore[arg-type, return-value]
    b"\x28\xb5\x2f\xfd": _by(lambda file: pa.CompressedInputStream(file, "zstd")),
    b"BZh": _by(bz2.BZ2File),
    b"\xfd7zXZ\x00": _by(lzma.LZMAFile),
    b"PARE": "encrypted Parquet",
    b"\x82SNAPPY\x00": "packed by Snappy",
    b"ORC": "ORC",
    b"Obj\x01": "Avro",
    b"7z\xbc\xaf": "packed by 7-Zip",
}
"""By a file's first bytes, whatever its name: how to unpack it, or why it stays closed.

Three bytes at least: an encrypted file begins with any two now and then. Gzip's third is its one
method of packing (RFC 1952, section 2.3.1).
"""

_DAMAGE: tuple[type[BaseException], ...] = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    pa.ArrowException,
)
