"""The catalogue: every table Footfall stores and every input it reads, stated once.

Schemas, comments, CHECK constraints, partitioning, the quality suites and the published
products all derive from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pyspark.sql import types as T

METHOD_VERSION = "3"
ELSEWHERE = "elsewhere"
UNKNOWN_AREA = "unknown"
OUTSIDE_AREA = "outside"
DWELL_BANDS = {"10-30": 30, "30-60": 60, "60-120": 120, "120-240": 240, "240-360": 360}
"""Label to upper bound in minutes; the lower bound is the label's first number, included."""
FIRST_BAND_FROM_MIN = 10
DAY_PARTS = {"night": 22, "morning": 6, "midday": 11, "afternoon": 14, "evening": 18}
"""Label to the local hour it starts at; each ends where the next starts."""
KINDS = ("visit", "pass_by", "resident")
SUBSCRIBER_STATES = ("taking_part", "left_out")
ATTACK_VIEWS = ("unprotected", "release")
REWARDING_MODES = ("per_day", "pool")
STATUSES = ("published", "suppressed", "no_data")
IDENTITY = "subscriber_id"
"""What a person is called in every input and table that knows the person."""
PERSONAL = frozenset({IDENTITY, "pseudonym", "fingerprint"})
ERASURE_OUTCOMES = ("pending", "certified", "traces_left")


@dataclass(frozen=True)
class Column:
    """One column: name, Spark type, what it means, whether it may be null."""

    name: str
    type: T.DataType
    comment: str
    nullable: bool = False

    @property
    def field(self) -> T.StructField:
        return T.StructField(self.name, self.type, self.nullable, {"comment": self.comment})


@dataclass(frozen=True, eq=False)
class Table:
    """One Delta table; it lies at `<root>/<schema>/<table>`.

    `ages_by` names the date or instant that tells how old a row is, by default `day`; where
    `expires` is given (SQL), only the rows for which it is true ever grow too old.
    """

    name: str
    root: Literal["restricted", "published"]
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partitioned_by: tuple[str, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)
    ages_by: str | None = None
    expires: str | None = None

    @property
    def knows_subscribers(self) -> bool:
        """Whether a person can be found in it, and is erased from it."""
        return any(column.name == IDENTITY for column in self.columns)

    @property
    def is_about_people(self) -> bool:
        """Whether a row is about one person, by whatever name: Delta keeps no statistics then,
        since the smallest and the largest of a file would be somebody's identity.
        """
        return any(column.name in PERSONAL for column in self.columns)

    @property
    def age_column(self) -> str | None:
        """None: a row of it never grows too old."""
        has_day = any(column.name == "day" for column in self.columns)
        return self.ages_by or ("day" if has_day else None)

    @property
    def schema(self) -> T.StructType:
        return T.StructType([column.field for column in self.columns])

    @property
    def path(self) -> str:
        return self.name.replace(".", "/")


@dataclass(frozen=True)
class Measure:
    """One protected measure: the unit of the privacy budget.

    `repeats` says that one subscriber-day may add more than 1 to the same cell (visits), which
    makes its L2 sensitivity `cells` in place of the square root of `cells`.
    """

    product: str
    name: str
    key: tuple[str, ...]
    repeats: bool = False

    @property
    def full_name(self) -> str:
        return f"{self.product}.{self.name}"


@dataclass(frozen=True)
class Input:
    """One landing folder: its columns, and which of them an operator may leave out."""

    name: str
    columns: tuple[Column, ...]
    optional: frozenset[str] = frozenset()


_string, _long, _double = T.StringType(), T.LongType(), T.DoubleType()
_date, _timestamp, _boolean = T.DateType(), T.TimestampType(), T.BooleanType()

# --- inputs ---------------------------------------------------------------------------------

EVENTS = Input(
    "events",
    (
        Column("subscriber_id", _string, "identity of the subscriber", True),
        Column("event_time", _timestamp, "instant of the event, UTC", True),
        Column("cell_id", _string, "serving cell", True),
        Column("event_type", _string, "kind of event", True),
    ),
)
CELLS = Input(
    "cells",
    (
        Column("cell_id", _string, "cell", True),
        Column("latitude", _double, "degrees, WGS84", True),
        Column("longitude", _double, "degrees, WGS84", True),
        Column("technology", _string, "radio technology", True),
        Column("azimuth_deg", _double, "main direction; null: omnidirectional", True),
        Column("beamwidth_deg", _double, "opening angle of the sector", True),
        Column("range_m", _double, "reach in metres", True),
        Column("indoor_zone_id", _string, "zone an indoor cell serves", True),
        Column("valid_from", _date, "first day, inclusive; null: open", True),
        Column("valid_to", _date, "last day, inclusive; null: open", True),
    ),
    frozenset(
        {"technology", "azimuth_deg", "beamwidth_deg", "indoor_zone_id", "valid_from", "valid_to"}
    ),
)
DECISIONS = Input(
    "decisions",
    (
        Column("decision_id", _string, "identity of the decision", True),
        Column("subscriber_id", _string, "who decided", True),
        Column("action", _string, "opt_out, opt_in or status_check", True),
        Column("verified", _boolean, "the one-time code was confirmed", True),
        Column("decided_at", _timestamp, "instant of the decision, UTC", True),
        Column("received_at", _timestamp, "instant of its arrival, UTC", True),
        Column("channel", _string, "how it was made", True),
    ),
    frozenset({"channel"}),
)
RESIDENTS = Input(
    "residents",
    (
        Column("area", _string, "H3 index at the catchment resolution", True),
        Column("residents", _double, "people living there", True),
    ),
)
SUBSCRIBERS = Input(
    "subscribers",
    (
        Column("subscriber_id", _string, "identity of the subscriber", True),
        Column("brand", _string, "brand of the contract", True),
        Column("area", _string, "H3 index of the billing address", True),
        Column("since", _date, "first day, inclusive; null: open", True),
        Column("until", _date, "last day, inclusive; null: open", True),
    ),
    frozenset({"brand", "since", "until"}),
)
OUTAGES = Input(
    "outages",
    (
        Column("cell_id", _string, "cell that was down", True),
        Column("from", _timestamp, "start, UTC", True),
        Column("to", _timestamp, "end, UTC", True),
    ),
)

# --- protected measures ---------------------------------------------------------------------

MEASURES = (
    Measure("zone_hours", "visitors", ("zone_id", "hour_start")),
    Measure("zone_hours", "passers_by", ("zone_id", "hour_start")),
    Measure("zone_days", "visitors", ("zone_id",)),
    Measure("zone_days", "visits", ("zone_id",), repeats=True),
    Measure("zone_days", "passers_by", ("zone_id",)),
    Measure("zone_dwell", "visitors", ("zone_id", "dwell_band")),
    Measure("zone_flows", "trips", ("origin_zone_id", "destination_zone_id", "day_part")),
    Measure("zone_catchment", "visitors", ("zone_id", "home_area")),
)
PARTICIPANTS = Measure("participation", "participants", ("area",))
BRAND_SUBSCRIBERS = Measure("participation", "subscribers", ("brand", "state"))
MONTHLY = (PARTICIPANTS, BRAND_SUBSCRIBERS)
"""Drawn on the first night of a month: each counts a subscriber in one cell of it at most."""


# --- restricted tables ----------------------------------------------------------------------


def _day(meaning: str = "local day") -> Column:
    return Column("day", _date, meaning)


def _one_of(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


REFERENCE_CELLS = Table(
    "reference.cells",
    "restricted",
    "Cells valid on the day, faulty ones left out.",
    (
        _day(),
        Column("cell_id", _string, "cell"),
        Column("latitude", _double, "degrees, WGS84"),
        Column("longitude", _double, "degrees, WGS84"),
        Column("technology", _string, "radio technology", True),
        Column("azimuth_deg", _double, "main direction; null: omnidirectional", True),
        Column("beamwidth_deg", _double, "opening angle of the sector", True),
        Column("range_m", _double, "reach in metres"),
        Column("indoor_zone_id", _string, "zone an indoor cell serves", True),
        Column("area", _string, "H3 cell of the position at the catchment resolution"),
    ),
    key=("day", "cell_id"),
    partitioned_by=("day",),
    checks={
        "on_earth": "latitude BETWEEN -90 AND 90 AND longitude BETWEEN -180 AND 180",
        "range_positive": "range_m > 0",
    },
)
_ABOUT_A_ZONE = (
    Column("name", _string, "free text: escape it wherever it is shown", True),
    Column("centre_id", _string, "shopping centre the zone belongs to", True),
    Column("centre_name", _string, "free text", True),
    Column("kind", _string, "free text", True),
    Column("opening_hours", _string, "as OpenStreetMap writes them", True),
)
REFERENCE_ZONES = Table(
    "reference.zones",
    "restricted",
    "Zones of the day, faulty ones left out.",
    (
        _day(),
        Column("zone_id", _string, "zone"),
        *_ABOUT_A_ZONE,
        Column("attraction", _double, "the zone's own pull; null: that of the settings", True),
        Column("geometry", T.BinaryType(), "outline, well-known binary, WGS84"),
    ),
    key=("day", "zone_id"),
    partitioned_by=("day",),
    checks={"id_is_plain": "zone_id RLIKE '^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$'"},
)
REFERENCE_CELL_ZONES = Table(
    "reference.cell_zones",
    "restricted",
    "Cells that tell of a zone: the probability of being in it when one serves, P(zone | cell).",
    (
        _day(),
        Column("cell_id", _string, "cell"),
        Column("zone_id", _string, "zone the cell sees"),
        Column("probability", _double, "P(zone | cell)"),
    ),
    key=("day", "cell_id", "zone_id"),
    partitioned_by=("day",),
    checks={"is_probability": "probability > 0 AND probability <= 1"},
)
REFERENCE_CELL_REACH = Table(
    "reference.cell_reach",
    "restricted",
    "Cells that are heard in a zone and round it: they put no phone into it and none out of it.",
    (
        _day(),
        Column("cell_id", _string, "cell"),
        Column("zone_id", _string, "zone within the cell's range"),
    ),
    key=("day", "cell_id", "zone_id"),
    partitioned_by=("day",),
)
CONSENT_PERIODS = Table(
    "consent.periods",
    "restricted",
    "Who takes part from when to when; who never decided is not in it.",
    (
        Column("subscriber_id", _string, "identity of the subscriber"),
        Column("taking_part", _boolean, "state of the period"),
        Column("from", _timestamp, "start, inclusive, UTC"),
        Column("to", _timestamp, "end, exclusive, UTC; null: still running", True),
        Column("decision_id", _string, "decision that started the period", True),
    ),
    key=("subscriber_id", "from"),
    checks={"ends_after_start": "to IS NULL OR to > from"},
)
CONSENT_DECISIONS = Table(
    "consent.decisions",
    "restricted",
    "Every decision that was delivered, each content once, with what is wrong with it.",
    (
        Column("content", _string, "SHA-256 of all that was delivered but its arrival"),
        Column("decision_id", _string, "identity of the decision", True),
        Column("subscriber_id", _string, "who decided", True),
        Column("action", _string, "opt_out, opt_in, status_check or what was sent", True),
        Column("verified", _boolean, "the one-time code was confirmed", True),
        Column("decided_at", _timestamp, "instant of the decision, UTC", True),
        Column("received_at", _timestamp, "instant of its first arrival, UTC", True),
        Column("channel", _string, "how it was made", True),
        Column("first_seen_at", _timestamp, "instant of the run that first read it, UTC"),
        Column("fault", _string, "why it changes no state; null: it counts", True),
    ),
    key=("content",),
    ages_by="first_seen_at",
    # A faulty one with the id of another holds that other one back: it says who must stay out.
    expires="fault IS NOT NULL AND "
    "(decision_id IS NULL OR count(1) OVER (PARTITION BY decision_id) = 1)",
)
CONSENT_OBJECTIONS = Table(
    "consent.objections",
    "restricted",
    "Who was erased and must stay out, by a fingerprint that only the objection key can make.",
    (
        Column("fingerprint", _string, "HMAC-SHA256 of the identity under the objection key"),
        Column("since", _timestamp, "instant of the objection, UTC"),
        Column("made_with", _string, "tells which key it was; nothing about the key itself"),
    ),
    key=("fingerprint",),
)
CONSENT_DELIVERIES = Table(
    "consent.deliveries",
    "restricted",
    "Files of decisions that were read, so that the next night reads only what is new.",
    (
        Column("file", _string, "where it lies"),
        Column("bytes", _long, "its size"),
        Column("modified_at", _timestamp, "its last change, UTC"),
        Column("read_at", _timestamp, "instant of the run that read it, UTC"),
    ),
    key=("file", "bytes", "modified_at"),
)
QUARANTINE = Table(
    "ops.quarantine",
    "restricted",
    "A capped, short-lived sample of the event rows that were left out, to find out why.",
    (
        _day(),
        Column("reason", _string, "the first that applied, as in ops.rejected"),
        Column("number", T.IntegerType(), "number of the row within day and reason"),
        Column("subscriber_id", _string, "identity as it was delivered", True),
        Column("event_time", _timestamp, "UTC", True),
        Column("cell_id", _string, "cell as it was delivered", True),
        Column("event_type", _string, "kind of event", True),
        Column("folder_date", _date, "UTC date of the folder it came in", True),
    ),
    key=("day", "reason", "number"),
    partitioned_by=("day",),
)
VISITS = Table(
    "silver.visits",
    "restricted",
    "Stays of the day in zones by key-of-the-day pseudonym, of those who take part.",
    (
        _day(),
        Column("pseudonym", _string, "HMAC-SHA256 of the identity under the key of the day"),
        Column("zone_id", _string, "zone"),
        Column("arrived_at", _timestamp, "first event of the stay, UTC"),
        Column("left_at", _timestamp, "last event of the stay, UTC"),
        Column("dwell_s", _double, "seconds from first to last event"),
        Column("presence", _double, "highest P(zone | cell) of the stay"),
        Column("kind", _string, "visit, pass_by or resident"),
        Column("home_area", _string, "H3 cell of the night, `unknown` or `outside`"),
    ),
    key=("day", "pseudonym", "zone_id", "arrived_at"),
    partitioned_by=("day",),
    checks={
        "dwell_counts_up": "dwell_s >= 0 AND left_at >= arrived_at",
        "presence_is_probability": "presence > 0 AND presence <= 1",
        "kind_known": _one_of("kind", KINDS),
    },
)
REWARDS_LEDGER = Table(
    "rewards.ledger",
    "restricted",
    "What subscribers earned by taking part, and are paid with the month.",
    (
        Column("subscriber_id", _string, "identity of the subscriber"),
        Column("month", _date, "first day of the month"),
        Column("days_taken_part", T.IntegerType(), "whole local days of the month"),
        Column("amount", _long, "in hundredths of the currency, with rewards.corrections"),
        Column("currency", _string, "ISO 4217"),
    ),
    key=("subscriber_id", "month"),
    partitioned_by=("month",),
    ages_by="month",
    checks={
        "days_of_a_month": "days_taken_part BETWEEN 0 AND 31",
        "never_negative": "amount >= 0",
    },
)
REWARDS_CORRECTIONS = Table(
    "rewards.corrections",
    "restricted",
    "Which part of the ledger is due for earlier months, by what was learned after their close.",
    (
        Column("subscriber_id", _string, "identity of the subscriber"),
        Column("month", _date, "first day of the month that pays it"),
        Column("corrected_month", _date, "first day of the month it is due for"),
        Column("days_taken_part", T.IntegerType(), "whole local days of that month, as known now"),
        Column("amount", _long, "what was missing, in hundredths of the currency"),
        Column("currency", _string, "ISO 4217"),
    ),
    key=("subscriber_id", "month", "corrected_month"),
    partitioned_by=("month",),
    ages_by="month",
    checks={
        "of_an_earlier_month": "corrected_month < month",
        "nothing_is_taken_back": "amount > 0",
    },
)
REWARDS_MONTHS = Table(
    "rewards.months",
    "restricted",
    "Months that are closed: by which terms, and where each cent of the pool went.",
    (
        Column("month", _date, "first day of the month"),
        Column("mode", _string, "per_day or pool"),
        Column("currency", _string, "ISO 4217; all amounts are in hundredths of it"),
        Column("cents_per_day", _long, "for a day, unless the brand has another rate"),
        Column("cents_by_brand", T.MapType(_string, _long, False), "for a day, by brand"),
        Column("monthly_cap", _long, "most that one subscriber earns for the month"),
        Column("regime", _string, "opt_out or opt_in, unless the brand has another one"),
        Column("regime_by_brand", T.MapType(_string, _string, False), "regimes by brand"),
        Column("pool", _long, "the month's pool; null: paid per day", True),
        Column("shared_out", _long, "of pool and carry, after corrections; 0 when paid per day"),
        Column("subscribers", _long, "who took part on some day"),
        Column("days_taken_part", _long, "days of all of them together"),
        Column("earned", _long, "for this month"),
        Column("corrections", _long, "for earlier months"),
        Column("paid", _long, "sum of the month's ledger"),
        Column("carried_in", _long, "of pools before, not paid yet; negative: paid in advance"),
        Column("carried_out", _long, "the same, after this month"),
        Column("closed_at", _timestamp, "UTC"),
        Column("exported_at", _timestamp, "export was written, UTC; null: not yet", True),
    ),
    key=("month",),
    ages_by="month",
    checks={
        "mode_known": _one_of("mode", REWARDING_MODES),
        "paid_is_earned_or_corrected": "paid = earned + corrections",
        "accounted_to_the_cent": "coalesce(pool, paid) + carried_in = paid + carried_out",
    },
)
RUN_OUTCOMES = RUNNING, PUBLISHED, FAILED, REFUSED, INTERRUPTED = (
    "running",
    "published",
    "failed",
    "refused",
    "interrupted",
)
RUNS = Table(
    "ops.runs",
    "restricted",
    "Nights that were run: what was read, what became of it.",
    (
        Column("run_id", _string, "run"),
        _day(),
        Column("started_at", _timestamp, "UTC"),
        Column("ended_at", _timestamp, "UTC; null: it runs still, or was killed", True),
        Column("outcome", _string, "running, published, failed, refused or interrupted"),
        Column("rows_in", _long, "rows of the folders read", True),
        Column("other_day", _long, "rows of other local days", True),
        Column("rejected", _long, "rows left out by a reason of ops.rejected", True),
        Column("not_taking_part", _long, "rows of subscribers who don't take part", True),
        Column("accepted", _long, "rows that count", True),
        Column(
            "files_read",
            T.ArrayType(
                T.StructType(
                    [T.StructField("path", _string), T.StructField("bytes", _long)],
                )
            ),
            "files read and their sizes",
            True,
        ),
    ),
    key=("run_id",),
    checks={
        "every_row_accounted_for": (
            "rows_in IS NULL OR rows_in = other_day + rejected + not_taking_part + accepted"
        ),
        "outcome_known": _one_of("outcome", RUN_OUTCOMES),
    },
)
QUALITY = Table(
    "ops.quality",
    "restricted",
    "What Great Expectations found each night.",
    (
        _day(),
        Column("run_id", _string, "run"),
        Column("subject", _string, "frame that was looked at"),
        Column("expectation", _string, "kind of expectation"),
        Column("column", _string, "column; null: the whole frame", True),
        Column("critical", _boolean, "a failure stops the night"),
        Column("success", _boolean, "met"),
        Column("observed", _string, "what was found, never a single value of a row", True),
    ),
    key=("day", "run_id", "subject", "expectation", "column"),
    partitioned_by=("day",),
)
REJECTED = Table(
    "ops.rejected",
    "restricted",
    "Event rows left out, by reason.",
    (
        _day(),
        Column("reason", _string, "the first that applied"),
        Column("rows", _long, "rows"),
    ),
    key=("day", "reason"),
    partitioned_by=("day",),
    checks={"never_negative": "rows >= 0"},
)
SUBSCRIBERS_SEEN = Table(
    "ops.subscribers_seen",
    "restricted",
    "How many subscribers the events of a day are of, by what became of them; holds no identity.",
    (
        _day(),
        Column("outcome", _string, "taking_part, or why not"),
        Column("subscribers", _long, "subscribers"),
    ),
    key=("day", "outcome"),
    partitioned_by=("day",),
    checks={"never_negative": "subscribers >= 0"},
)
CONSENT_CERTIFICATES = Table(
    "ops.consent_certificates",
    "restricted",
    "Proof per release that nobody is counted who does not take part; holds no identity.",
    (
        Column("number", _long, "1, 2, 3, … in the order they were made"),
        _day(),
        Column("release_id", _string, "release; the newest certificate of a release counts"),
        Column("spends", _string, "measures of the release with ρ, L0 and σ, as in the ledger"),
        Column("consent_version", _long, "version of consent.periods"),
        Column("decisions_received_until", _timestamp, "newest decision seen, UTC", True),
        Column("subscribers_seen", _long, "subscribers in the events"),
        Column("taking_part", _long, "of these, taking part"),
        Column("left_out", T.MapType(_string, _long), "of these, left out, by reason"),
        Column("recount", _long, "contributors who may not contribute, by another path"),
        Column("opt_outs", _long, "left out for the first time, since the certificate before"),
        Column("opt_outs_in_time", _long, "of these, within consent.max_latency"),
        Column("longest_wait_h", _double, "hours of them from the opt-out to this one", True),
        Column("issued_at", _timestamp, "UTC"),
        Column("previous_hash", _string, "hash of the certificate before", True),
        Column("hash", _string, "SHA-256 of all of the above"),
    ),
    key=("number",),
    checks={
        "nobody_wrongly_counted": "recount = 0",
        "never_more_in_time": "opt_outs_in_time <= opt_outs",
    },
)
RELEASES = Table(
    "ops.releases",
    "restricted",
    "The privacy ledger: what each release spent, by measure.",
    (
        Column("release_id", _string, "release"),
        _day("local day; first of the month for the participants"),
        Column("product", _string, "published table"),
        Column("measure", _string, "measure"),
        Column("rho", _double, "zero-concentrated DP, per subscriber-day"),
        Column("delta", _double, "0: the mechanism is pure zCDP"),
        Column("l0", T.IntegerType(), "cells kept of a subscriber-day"),
        Column("linf", _double, "most that a subscriber-day adds to one cell, in devices"),
        Column("l2", _double, "L2 sensitivity, in devices"),
        Column("sigma", _double, "scale of the noise, in devices"),
        Column("mechanism", _string, "how the noise is drawn"),
        Column("method_version", _string, "version of the method"),
        Column("code_version", _string, "version of the code"),
        Column("input_versions", T.MapType(_string, _long), "Delta versions of the inputs"),
        Column("rows", _long, "cells of the measure's domain; null: not published yet", True),
        Column("suppressed", _long, "of these, under the threshold; null as above", True),
        Column("supersedes", _string, "release this one replaces", True),
        Column("published_at", _timestamp, "UTC"),
    ),
    key=("release_id", "product", "measure"),
    checks={"spends": "rho > 0 AND sigma > 0 AND l2 > 0"},
)
NOISY_CELLS = Table(
    "ops.noisy_cells",
    "restricted",
    "Noisy counts of every cell of every measure: all that is published derives from them.",
    (
        Column("release_id", _string, "release"),
        Column("product", _string, "published table"),
        Column("measure", _string, "measure"),
        Column("keys", T.MapType(_string, _string, False), "the cell; instants as ISO 8601 UTC"),
        Column("noisy_devices", _double, "noisy count, unclamped, in devices"),
        Column("sigma", _double, "scale of its noise, in devices"),
    ),
    key=("release_id", "product", "measure", "keys"),
    partitioned_by=("release_id",),
    checks={"noise_was_added": "sigma > 0"},
)
ATTACKS = Table(
    "ops.attacks",
    "restricted",
    "Scores of the attacks on a release and on the same data unprotected, with their bounds.",
    (
        Column("release_id", _string, "release"),
        Column("attack", _string, "attack"),
        Column("attacker", _string, "who attacks, and what they know"),
        Column("view", _string, "unprotected: the same attack without protection, or release"),
        Column("score", _double, "what the attack reached"),
        Column("standard_error", _double, "of the score; 0: exact, or already a lower bound"),
        Column("bound", _double, "what the guarantee allows"),
        Column("within_bound", _boolean, "score does not break the bound"),
        Column("attacked_at", _timestamp, "UTC"),
    ),
    key=("release_id", "attack", "view"),
    checks={"view_known": _one_of("view", ATTACK_VIEWS)},
    ages_by="attacked_at",
)
ERASURES = Table(
    "ops.erasures",
    "restricted",
    "Requests to erase people: what was removed, and the proof that nothing is left; no identity.",
    (
        Column("erasure_id", _string, "run that erased"),
        Column("request", _string, "the same for the same people; tells nothing about them"),
        Column("requested_at", _timestamp, "UTC"),
        Column("ended_at", _timestamp, "UTC; null: still pending", True),
        Column("persons", T.IntegerType(), "people the request names"),
        Column("rows_removed", T.MapType(_string, _long), "rows removed, by table", True),
        Column(
            "days_out_of_reach",
            T.ArrayType(_date),
            "days of silver.visits whose key is destroyed: nobody can be found in them any more",
            True,
        ),
        Column("files_searched", _long, "files searched for the identities", True),
        Column("hits", _long, "times an identity was found in them", True),
        Column("traces", T.ArrayType(_string), "files with hits, and those that stay closed", True),
        Column("outcome", _string, "pending, certified or traces_left"),
    ),
    key=("erasure_id",),
    checks={
        "outcome_known": _one_of("outcome", ERASURE_OUTCOMES),
        "certified_is_searched": "outcome != 'certified' OR (hits = 0 AND files_searched > 0)",
    },
    ages_by="ended_at",
)
EXPIRED = Table(
    "ops.expired",
    "restricted",
    "What went because it had reached its age limit.",
    (
        _day("local day of the night"),
        Column("subject", _string, "table, or `keys`"),
        Column("rows", _long, "rows removed; of `keys`: keys destroyed"),
        Column("files", _long, "data files removed"),
        Column("older_than", _date, "what was before this local day went"),
        Column("at", _timestamp, "UTC"),
    ),
    key=("day", "subject", "at"),
)

# --- published tables -----------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """One published table: its key, its protected measures, and what is derived from them."""

    table: Table
    measures: tuple[str, ...]
    derived: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.table.name.removeprefix("gold.")

    @property
    def kept_by(self) -> str:
        """The column by whose dates rows are replaced: day, week or month."""
        (column,) = self.table.partitioned_by
        return column

    @property
    def zone_columns(self) -> tuple[str, ...]:
        """Columns that name a zone."""
        return tuple(name for name in self.table.key if name.endswith("zone_id"))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all measures, protected and derived."""
        return tuple(
            column.name.removesuffix("_low")
            for column in self.table.columns
            if column.name.endswith("_low")
        )


def _product(
    name: str,
    doc: str,
    key: tuple[Column, ...],
    measures: Mapping[str, str],
    *,
    derived: Mapping[str, str] | None = None,
    about: tuple[Column, ...] = (),
) -> Product:
    """A table that is partitioned by the first column of its key, a date; columns `about` a row are
    neither key nor measure.
    """
    columns = [*key, *about]
    for measure, meaning in {**measures, **(derived or {})}.items():
        columns += [
            Column(measure, _double, f"{meaning}; null: suppressed or no data", True),
            Column(f"{measure}_low", _double, "lower end of the 95 % interval", True),
            Column(f"{measure}_high", _double, "upper end of the 95 % interval", True),
        ]
    columns += [
        Column("status", _string, "published, suppressed or no_data"),
        Column("release_id", _string, "release the row belongs to"),
        Column("method_version", _string, "version of the method"),
        Column("published_at", _timestamp, "UTC"),
    ]
    ordered = {
        f"{measure}_in_interval": (
            f"{measure} IS NULL OR ({measure}_low <= {measure} AND {measure} <= {measure}_high"
            f" AND {measure}_low >= 0)"
        )
        for measure in {**measures, **(derived or {})}
    }
    some_measure = " OR ".join(f"{measure} IS NOT NULL" for measure in measures)
    table = Table(
        f"gold.{name}",
        "published",
        doc,
        tuple(columns),
        key=tuple(column.name for column in key),
        partitioned_by=(key[0].name,),
        checks={
            **ordered,
            "status_known": _one_of("status", STATUSES),
            "status_tells": f"(status = 'published') = ({some_measure})",
        },
    )
    return Product(table, tuple(measures), tuple(derived or ()))


_zone = Column("zone_id", _string, "zone")

ZONE_HOURS = _product(
    "zone_hours",
    "People by zone and hour; every zone and hour of the day has a row.",
    (_day(), _zone, Column("hour_start", _timestamp, "start of the local hour, UTC")),
    {
        "visitors": "people with a visit in the zone overlapping the hour",
        "passers_by": "people who only passed by in the hour",
    },
)
ZONE_DAYS = _product(
    "zone_days",
    "People by zone and local day.",
    (_day(), _zone),
    {
        "visitors": "people with a visit in the zone that day, each once",
        "visits": "visits of the day",
        "passers_by": "people who only passed by that day",
    },
    derived={"dwell_median_min": "median length of the day's longest visits, minutes"},
)
ZONE_DWELL = _product(
    "zone_dwell",
    "Visitors of the day by the length of their longest visit in the zone.",
    (_day(), _zone, Column("dwell_band", _string, "minutes, lower bound included")),
    {"visitors": "people"},
)
ZONE_FLOWS = _product(
    "zone_flows",
    "Trips between zones by day part; `elsewhere` is any other place.",
    (
        _day(),
        Column("origin_zone_id", _string, "zone left, or `elsewhere`"),
        Column("destination_zone_id", _string, "zone reached, or `elsewhere`"),
        Column("day_part", _string, "night, morning, midday, afternoon or evening, local"),
    ),
    {"trips": "trips"},
)
ZONE_CATCHMENT = _product(
    "zone_catchment",
    "Visitors of the day by where they spent the night.",
    (_day(), _zone, Column("home_area", _string, "H3 cell, `unknown` or `outside`")),
    {"visitors": "people"},
)
ZONE_POPULARITY = _product(
    "zone_popularity",
    "Popular times: mean visitors by weekday and hour over four weeks, 100 at the zone's peak.",
    (
        Column("week", _date, "Monday of the last week of the four"),
        _zone,
        Column("weekday", T.IntegerType(), "ISO weekday, 1 is Monday"),
        Column("hour", T.IntegerType(), "local hour, 0 to 23"),
    ),
    {"popularity": "share of the zone's busiest weekday and hour, 0 to 100"},
)
ZONE_COMPARISON = _product(
    "zone_comparison",
    "A zone's day beside its passers-by, the same weekday a week before, and the other zones.",
    (_day(), _zone),
    {
        "capture_rate": "visitors in percent of visitors and passers-by",
        "week_before_index": "visitors in percent of those of the same weekday a week before",
        "city_index": "visitors in percent of the mean of all zones whose visitors are published",
        "rank": "place by visitors among the zones whose visitors are published, 1 has most",
        "busiest_hour": "local hour with most visitors; its interval: hours that may have been it",
    },
)
_days_counted = Column("days", T.IntegerType(), "days of it that are counted: published, with data")
ZONE_WEEKS = _product(
    "zone_weeks",
    "Visits of a calendar week, as far as its days are published.",
    (Column("week", _date, "Monday of the week"), _zone),
    {"visits": "visits of the days that are counted"},
    about=(_days_counted,),
)
ZONE_MONTHS = _product(
    "zone_months",
    "Visits of a calendar month, as far as its days are published.",
    (Column("month", _date, "first of the month"), _zone),
    {"visits": "visits of the days that are counted"},
    about=(_days_counted,),
)

NIGHTLY_PRODUCTS = (ZONE_HOURS, ZONE_DAYS, ZONE_DWELL, ZONE_FLOWS, ZONE_CATCHMENT)
ROLLED_UP_PRODUCTS = (ZONE_COMPARISON, ZONE_WEEKS, ZONE_MONTHS, ZONE_POPULARITY)
"""Made of what nightly products say of several days or zones."""
PUBLISHED_PRODUCTS = (*NIGHTLY_PRODUCTS, *ROLLED_UP_PRODUCTS)

# --- what a buyer gets beside the rows of published tables -----------------------------------

DELIVERED_ZONES = Table(
    "delivery.zones",
    "published",
    "The zones of the licence.",
    (
        _zone,
        *_ABOUT_A_ZONE,
        Column("geometry", T.BinaryType(), "outline, well-known binary, WGS84"),
    ),
    key=("zone_id",),
)
DELIVERED_RELEASES = Table(
    "delivery.releases",
    "published",
    "What was delivered when: one row per day, a later release takes an earlier one's place.",
    (
        _day(),
        Column("release_id", _string, "release the day's rows belong to"),
        Column("supersedes", _string, "release that it takes the place of", True),
        Column("method_version", _string, "version of the method"),
        Column("published_at", _timestamp, "UTC"),
        Column("delivered_at", _timestamp, "UTC"),
        Column("scope", _string, "hash of the zones and products of the licence then"),
    ),
    key=("day",),
    partitioned_by=("day",),
)

TABLES = (
    REFERENCE_CELLS,
    REFERENCE_ZONES,
    REFERENCE_CELL_ZONES,
    REFERENCE_CELL_REACH,
    CONSENT_DELIVERIES,
    CONSENT_DECISIONS,
    CONSENT_PERIODS,
    CONSENT_OBJECTIONS,
    QUARANTINE,
    VISITS,
    REWARDS_LEDGER,
    REWARDS_CORRECTIONS,
    REWARDS_MONTHS,
    RUNS,
    QUALITY,
    REJECTED,
    SUBSCRIBERS_SEEN,
    CONSENT_CERTIFICATES,
    RELEASES,
    NOISY_CELLS,
    ATTACKS,
    ERASURES,
    EXPIRED,
    *(product.table for product in PUBLISHED_PRODUCTS),
)
