"""People erased from everything that is kept of them (GDPR, Article 17), and the proof of it.

    request ──> objection ──> visits not ──> all tables ──> old files, ──> search of ──> certificate
    (pending)   (it stays)    yet released                  old logs       every file

Every step can be done again, and the objection comes before anything is removed: cut short after
it, the people are out of every later night, and the next erasure of anybody or the next
`erase_expired` finds them in the tables by their fingerprints and removes what was left. Only the
search, and with it the certificate (`ops.erasures`), needs their identities: until the operator
gives the same file again, the request stays `pending`, and `erase_expired` says so.

Out of reach are the visits of days whose key is destroyed: nobody can be found in them any more,
the operator included. They go by their age; the certificate names the days.
"""

from __future__ import annotations

import hmac
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import objections, traces
from jobs.frames import local_frame
from jobs.keys import key_store
from jobs.runtime import Night, run_job
from transforms.errors import Failed, Refused
from transforms.tables import ERASURES, IDENTITY, TABLES, VISITS, Table
from transforms.wording import few

SHOWN = 100
"""Names of files with traces that a certificate holds."""


@dataclass(frozen=True)
class Erasure:
    """One line of `ops.erasures`."""

    erasure_id: str
    request: str
    requested_at: datetime
    persons: int
    ended_at: datetime | None = None
    rows_removed: Mapping[str, int] | None = None
    days_out_of_reach: list[date] | None = None
    files_searched: int | None = None
    hits: int | None = None
    traces: list[str] | None = None
    outcome: str = "pending"

    def __str__(self) -> str:
        rows = few(sum((self.rows_removed or {}).values()))
        return (
            f"erasure {self.erasure_id}: {self.outcome}, {rows} rows removed, "
            f"{self.files_searched} files searched, {self.hits} hits"
        )


def erase_subscribers(night: Night, *, ids: Path) -> Erasure:
    """Raises `Misused` for a file without identities, `Failed` when something of them is left:
    the certificate is stored before that and says so, too.
    """
    identities = objections.identities_in(ids)
    night.progress.headline("Footfall, erasure")
    objections.make_key(night)
    fingerprints = objections.fingerprints_of(night, identities)
    erasure = _begun(night, fingerprints)
    objections.enter(night, fingerprints)
    pseudonyms, out_of_reach = _pseudonyms(night, identities)
    removed = _remove_visits(night, pseudonyms)
    for table, rows in _erase_everybody_who_objects(night).items():
        removed[table] = removed.get(table, 0) + rows
    found = _searched(night, identities, {one for _, one in pseudonyms})
    closed = [f"not looked into: {name}" for name in found.not_looked_into]
    ended = replace(
        erasure,
        ended_at=night.now(),
        rows_removed=removed,
        days_out_of_reach=out_of_reach,
        files_searched=found.files,
        hits=found.hits,
        traces=[*map(str, found.traces), *closed][:SHOWN],
        outcome="traces_left" if found.hits or closed else "certified",
    )
    _store(night, ended)
    night.progress.note(str(ended))
    if ended.outcome != "certified":
        raise Failed(
            f"erasure {ended.erasure_id}",
            found=f"{found.hits} traces in {found.files} files ({'; '.join(ended.traces or [])})",
            expected="none",
            consequence="what was removed stays removed, the rest has to be removed by hand",
        )
    return ended


def finish_pending(night: Night) -> int:
    """Removes what erasures that were cut short may have left. -> how many there are"""
    pending = _pending(night)
    if pending:
        _erase_everybody_who_objects(night)
    for one in pending:
        night.progress.note(f"erasure {one.erasure_id} is not certified: start it again")
    return len(pending)


def _begun(night: Night, fingerprints: list[str]) -> Erasure:
    """The request as it stands in `ops.erasures`: a new one, or the same one cut short before."""
    request = objections.request_of(night, fingerprints)
    for before in _pending(night):
        if before.request == request:
            return before
    fresh = Erasure(uuid.uuid4().hex, request, night.now(), len(fingerprints))
    _store(night, fresh)
    return fresh


def _pending(night: Night) -> list[Erasure]:
    rows = night.store.read(ERASURES).where(F.col("outcome") == F.lit("pending")).collect()
    return [Erasure(**row.asDict()) for row in rows]


def _store(night: Night, erasure: Erasure) -> None:
    night.store.merge(ERASURES, local_frame(night.spark, [asdict(erasure)], ERASURES.schema))


# --- visits that are not released yet ----------------------------------------------------------


def _pseudonyms(night: Night, identities: list[str]) -> tuple[list[tuple[date, str]], list[date]]:
    """The people's pseudonyms of all stored days whose key is still there, and the other days."""
    pseudonyms, out_of_reach = [], []
    paths, store = night.settings.paths, night.settings.keys.store
    for row in night.store.read(VISITS).select("day").distinct().sort("day").collect():
        try:
            key = key_store(store, folder=paths.keys_folder, day=row.day)()
        except Refused:
            out_of_reach.append(row.day)
            continue
        for identity in identities:
            pseudonyms.append((row.day, hmac.digest(key, identity.encode(), "sha256").hex()))
    return pseudonyms, out_of_reach


def _remove_visits(night: Night, pseudonyms: list[tuple[date, str]]) -> dict[str, int]:
    if not pseudonyms:
        return {}
    theirs = local_frame(night.spark, pseudonyms, "day date, pseudonym string")
    return {VISITS.name: _remove(night, VISITS, theirs, on=("day", "pseudonym"))}


# --- everything else ---------------------------------------------------------------------------


def _erase_everybody_who_objects(night: Night) -> dict[str, int]:
    """Removes the rows of all who object from every table, then old files and logs.

    All of them and not only those of this request: what an erasure that was cut short has not
    reached goes, too. -> rows removed, by table
    """
    knowing = [table for table in TABLES if table.knows_subscribers and night.store.exists(table)]
    if not knowing:
        return {}
    stored = [night.store.read(table) for table in knowing]
    exported = [rows for rows in map(night.store.exported, knowing) if rows is not None]
    everybody = reduce(DataFrame.union, [rows.select(IDENTITY) for rows in (*stored, *exported)])
    # Not a view of the tables: those who are removed from one would be missing in it.
    found = objections.objecting(night, everybody).collect()
    theirs = local_frame(night.spark, found, f"{IDENTITY} string")
    removed = {
        table.name: _remove(night, table, theirs, on=(IDENTITY,))
        + night.store.delete_from_exports(table, theirs, on=(IDENTITY,))
        for table in knowing
    }
    # Whatever was removed now: the run that removed it may have got no further.
    night.store.forget(table for table in TABLES if table.is_about_people)
    return removed


def _remove(night: Night, table: Table, theirs: DataFrame, *, on: tuple[str, ...]) -> int:
    rows = night.store.read(table).join(F.broadcast(theirs), on=list(on), how="left_semi").count()
    if rows:
        night.store.delete_matching(table, theirs, on=on)
    return rows


# --- the proof ---------------------------------------------------------------------------------


def _searched(night: Night, identities: list[str], pseudonyms: set[str]) -> traces.Found:
    """What is found of the people in all that is kept: below both roots, in keys and reports."""
    needles = {form for one in identities for form in traces.forms_of_identity(one)}
    needles |= {form for one in pseudonyms for form in traces.forms_of_pseudonym(one)}
    paths = night.settings.paths
    with night.store.on_this_machine() as roots:
        others = (Path(paths.keys_folder), Path(paths.reports_folder))
        apart = [
            one
            for one in others
            if one.exists() and not any(one.is_relative_to(root) for root in roots)
        ]
        return traces.search_for(needles).through([*roots, *apart])


FILES = {"ids": "text file with one identity a line: whom to erase"}

if __name__ == "__main__":
    sys.exit(run_job(erase_subscribers, description=__doc__ or "", files=FILES))
