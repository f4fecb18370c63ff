"""What the operator's own monitoring reads of each night: steps and errors as lines of JSON, its
figures as OpenMetrics text.

Like everything that leaves the tables, neither holds an exact small count.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, time
from pathlib import Path
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.exposition import generate_latest
from pythonjsonlogger.json import JsonFormatter

from transforms.errors import FootfallError
from transforms.operations import ROWS, STATES, NightStatus
from transforms.wording import FEW

STDERR = "stderr"
_LOG = logging.getLogger("footfall")
_LOG.setLevel(logging.INFO)
_LOG.propagate = False
_LOG.addHandler(logging.NullHandler())
_NOTHING: Mapping[str, str] = MappingProxyType({})
_ABOUT = ContextVar("about", default=_NOTHING)


def log_to(target: str | None) -> None:
    """From now on the log goes to `stderr`, is added to a file, or goes nowhere."""
    for handler in _LOG.handlers[:]:
        _LOG.removeHandler(handler)
        handler.close()
    _LOG.addHandler(_handler(target))


def _handler(target: str | None) -> logging.Handler:
    if target is None:
        return logging.NullHandler()
    handler: logging.Handler
    if target == STDERR:
        handler = logging.StreamHandler(sys.stderr)
    else:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(target, encoding="utf-8")
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{message}",
            style="{",
            rename_fields={"levelname": "level", "message": "event"},
            timestamp="at",
        )
    )
    return handler


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Every line of the log holds these, for as long as the context lasts."""
    token = _ABOUT.set({**_ABOUT.get(), **{name: str(value) for name, value in fields.items()}})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def log(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    _LOG.log(level, event, extra={**_ABOUT.get(), **fields})


def log_error(error: FootfallError) -> None:
    log("error", level=logging.ERROR, exit_code=error.exit_code, **error.parts)


def write_metrics(path: str, night: NightStatus, *, rho_cap: float) -> None:
    """Replaces the file at once, so that nobody reads half of it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.new")
    beside.write_bytes(openmetrics(night, rho_cap=rho_cap))
    beside.replace(target)


def openmetrics(night: NightStatus, *, rho_cap: float) -> bytes:
    """One night's figures; what is not known of it is not among them."""
    registry, run, rows = CollectorRegistry(), night.last_run, night.rows

    def gauge(name: str, meaning: str, value: float | None) -> None:
        if value is not None:
            Gauge(f"footfall_{name}", meaning, registry=registry).set(value)

    def gauges(name: str, meaning: str, label: str, values: Mapping[str, float]) -> None:
        family = Gauge(f"footfall_{name}", meaning, [label], registry=registry)
        for key, value in values.items():
            family.labels(key).set(value)

    states = {state: float(state == night.state) for state in STATES}
    gauges("night_state", "1 for what became of the newest night", "state", states)
    day = datetime.combine(night.day, time(), UTC)
    gauge("night_day_seconds", "The night's day, at 00:00 UTC", day.timestamp())
    if run and run.ended_at:
        ended_at = run.ended_at.replace(tzinfo=UTC)
        gauge("night_ended_seconds", "When its last run ended", ended_at.timestamp())
    gauge("night_duration_seconds", "How long its last run took", night.seconds)
    if rows:
        read = {name: getattr(rows, name) for name in ROWS}
        tens = {name: count // FEW * FEW for name, count in read.items()}
        gauges("night_rows", "Rows of events, rounded down to tens", "outcome", tens)
    cells = {
        "published": night.cells - night.suppressed_cells,
        "suppressed": night.suppressed_cells,
    }
    gauges("night_cells", "Cells of its newest release", "status", cells)
    rho = {"spent": night.ledger.rho, "cap": rho_cap}
    gauges("night_rho", "Privacy spent per subscriber-day (zero-concentrated)", "of", rho)
    wait = "The longest that an opt-out waited for the first release without that person"
    gauge("night_opt_out_wait_hours", wait, night.longest_wait_h)
    gauge("night_findings", "Expectations of quality that were not met", night.findings)
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return text
