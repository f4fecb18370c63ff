"""The chain of certificates: whatever is changed, taken out or put in shows."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.certificates import Certificate, faults, spends

DAY = date(2026, 11, 23)
SPENDS = spends([("zone_hours.visitors", 0.035, 8, 10.690449676496975)])
FIRST = Certificate(
    number=0,
    day=DAY,
    release_id=f"{DAY}-1",
    spends=SPENDS,
    consent_version=4,
    decisions_received_until=datetime(2026, 11, 24, 1),
    subscribers_seen=1_000,
    taking_part=900,
    left_out={"opted_out": 70, "not_a_subscriber": 30},
    recount=0,
    opt_outs=2,
    opt_outs_in_time=2,
    longest_wait_h=7.25,
    issued_at=datetime(2026, 11, 24, 2, 30),
)


def chain(length: int = 4) -> list[Certificate]:
    links: list[Certificate] = []
    for night in range(length):
        day = DAY + timedelta(days=night)
        one = replace(FIRST, day=day, release_id=f"{day}-1", consent_version=4 + night)
        links.append(one.sealed(after=links[-1] if links else None))
    return links


def ledger(links: list[Certificate]) -> dict[str, str]:
    return {one.release_id: one.spends for one in links}


LINKS = chain()
OTHERS: dict[str, object] = {
    "number": 9,
    "day": date(2020, 1, 1),
    "release_id": "another",
    "spends": "nothing",
    "consent_version": 99,
    "decisions_received_until": None,
    "subscribers_seen": 1,
    "taking_part": 901,
    "left_out": {"opted_out": 71, "not_a_subscriber": 30},
    "recount": 1,
    "opt_outs": 3,
    "opt_outs_in_time": 1,
    "longest_wait_h": 7.26,
    "issued_at": datetime(2026, 11, 24, 2, 31),
    "previous_hash": "0" * 64,
    "hash": "0" * 64,
}


def test_a_chain_as_it_was_sealed_holds_in_any_order() -> None:
    assert faults(LINKS, ledger=ledger(LINKS)) == []
    assert faults(LINKS[::-1], ledger=ledger(LINKS)) == []
    assert faults([], ledger={}) == []


@pytest.mark.parametrize("name", [one.name for one in fields(Certificate)])
@pytest.mark.parametrize("link", range(len(LINKS)))
def test_whatever_is_changed_in_a_certificate_shows(link: int, name: str) -> None:
    changed = list(LINKS)
    changed[link] = replace(LINKS[link], **{name: OTHERS[name]})  # type: ignore[arg-type]
    assert faults(changed, ledger=ledger(LINKS))


@given(link=st.sampled_from(range(len(LINKS) - 1)), seen=st.integers(0, 999))
def test_a_certificate_that_is_sealed_anew_no_longer_fits_the_next(link: int, seen: int) -> None:
    forged = replace(LINKS[link], taking_part=seen)
    changed = [*LINKS[:link], replace(forged, hash=forged.seal), *LINKS[link + 1 :]]
    found = faults(changed, ledger=ledger(LINKS))
    assert found if seen != LINKS[link].taking_part else not found


@pytest.mark.parametrize("link", range(len(LINKS)))
def test_a_certificate_that_is_taken_out_is_missed(link: int) -> None:
    assert faults(LINKS[:link] + LINKS[link + 1 :], ledger=ledger(LINKS))


def test_what_the_ledger_says_otherwise_shows() -> None:
    release = LINKS[1].release_id
    (found,) = faults(LINKS, ledger=ledger(LINKS) | {release: SPENDS.replace("l0=8", "l0=9")})
    assert found == f"release {release} spends something else in the ledger"


def test_of_a_release_that_was_certified_twice_the_newest_counts() -> None:
    again = replace(LINKS[-1], spends="other").sealed(after=LINKS[-1])
    links = [*LINKS, again]
    assert faults(links, ledger=ledger(LINKS) | {again.release_id: "other"}) == []
    assert faults(links, ledger=ledger(LINKS))


def test_the_seal_is_of_the_content_alone() -> None:
    turned = dict(reversed(FIRST.left_out.items()))
    assert replace(FIRST, left_out=turned).seal == FIRST.seal
    assert replace(FIRST, hash="x").seal == FIRST.seal


def test_the_share_in_time_is_whole_where_nobody_waited() -> None:
    assert replace(FIRST, opt_outs=0, opt_outs_in_time=0).share_in_time == 1
    assert replace(FIRST, opt_outs=4, opt_outs_in_time=3).share_in_time == 0.75
