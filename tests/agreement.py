"""What a night stored, held against the independent implementation in `tests/oracle.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from itertools import groupby
from operator import itemgetter

import numpy as np
import pandas as pd
from deltalake import DeltaTable

from jobs.ingest_reference import stored_zones
from jobs.publish_products import public_pairs
from jobs.runtime import Night
from tests.oracle import Exact
from transforms import metrics
from transforms.disclosure import bounded
from transforms.tables import (
    MEASURES,
    REFERENCE_CELL_REACH,
    REFERENCE_CELL_ZONES,
    REJECTED,
    VISITS,
    Measure,
    Table,
)


def stored(night: Night, table: Table) -> pd.DataFrame:
    """Rows of the night's day, read without Spark; instants without a time zone, in UTC."""
    rows = DeltaTable(night.store.path(table)).to_pyarrow_table().to_pandas()
    for name in rows.select_dtypes("datetimetz"):
        rows[name] = rows[name].dt.tz_localize(None)
    return rows[rows["day"] == night.day.date] if "day" in rows else rows


def rejected(night: Night) -> dict[str, int]:
    """Event rows left out, by reason."""
    rows = stored(night, REJECTED)
    return dict(zip(rows["reason"], rows["rows"], strict=True))


def assert_agrees(night: Night, exact: Exact) -> None:
    """Places, stays and sums are those of the oracle."""
    assert_cell_zones_agree(night, exact)
    assert_visits_agree(night, exact)
    assert_sums_agree(night, exact)


def assert_cell_zones_agree(night: Night, exact: Exact) -> None:
    """The same pairs, and P(zone | cell) to a millionth; and the same cells that tell nothing."""
    heard = [
        frame[["cell_id", "zone_id"]].sort_values(["cell_id", "zone_id"], ignore_index=True)
        for frame in (stored(night, REFERENCE_CELL_REACH), exact.cell_reach)
    ]
    pd.testing.assert_frame_equal(*heard, check_dtype=False)
    ours = stored(night, REFERENCE_CELL_ZONES)
    both = ours.merge(exact.cell_zones, on=["cell_id", "zone_id"], how="outer", indicator=True)
    lonely = both[both["_merge"] != "both"]
    assert lonely.empty, lonely
    assert len(both)
    np.testing.assert_allclose(both["probability_x"], both["probability_y"], rtol=1e-6)


def assert_visits_agree(night: Night, exact: Exact) -> None:
    """Everybody's stays are the same, person by person, without asking who is who."""
    ours, theirs = stored(night, VISITS), exact.visits
    assert len(ours)
    assert not set(ours["pseudonym"]) & set(theirs["subscriber_id"])
    assert _days_of_people(ours, "pseudonym") == _days_of_people(theirs, "subscriber_id")


def _days_of_people(visits: pd.DataFrame, who: str) -> Counter[frozenset[Hashable]]:
    stay = ["zone_id", "arrived_at", "left_at", "dwell_s", "presence", "kind", "home_area"]
    rounded = visits.assign(
        presence=visits["presence"].round(6),
        arrived_at=visits["arrived_at"].astype("datetime64[us]"),
        left_at=visits["left_at"].astype("datetime64[us]"),
    )
    in_order = rounded.sort_values(who)
    stays = zip(in_order[who], in_order[stay].itertuples(index=False, name=None), strict=True)
    return Counter(
        frozenset(one for _, one in of_person) for _, of_person in groupby(stays, key=itemgetter(0))
    )


def assert_sums_agree(night: Night, exact: Exact) -> None:
    """All measures, bounded and exact. Where a keyed hash breaks a tie, within what it may do."""
    contributions = metrics.contributions(
        night.of_day(VISITS), day=night.day, pairs=public_pairs(night, stored_zones(night))
    )
    for measure in MEASURES:
        name = measure.full_name
        l0 = night.settings.privacy.split[name].cells
        kept = bounded(contributions[name], key=measure.key, l0=l0).toPandas()
        assert Counter(kept["units"]) == exact.kept_units[name], name
        _assert_sums_of_one_agree(kept, measure, exact)


def _assert_sums_of_one_agree(kept: pd.DataFrame, measure: Measure, exact: Exact) -> None:
    key = list(measure.key)
    theirs = exact.measures[measure.full_name]
    if "hour_start" in key:
        kept["hour_start"] = kept["hour_start"].astype("datetime64[us]")
        theirs = theirs.assign(hour_start=theirs["hour_start"].astype("datetime64[us]"))
    ours = kept.groupby(key, as_index=False).agg(ours=("units", "sum"))
    both = ours.merge(theirs, on=key, how="outer").fillna({"ours": 0})
    wrong = both[~both["ours"].between(both["units_least"], both["units_most"])]
    assert wrong.empty, f"{measure.full_name}\n{wrong}"
