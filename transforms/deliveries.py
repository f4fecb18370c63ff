"""What a buyer gets of what was published: the rows of the licence, and what they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from transforms import rollups
from transforms.disclosure import Part, Release
from transforms.licences import Licence
from transforms.tables import ELSEWHERE, Product, Table


def licensed(
    rows: DataFrame,
    product: Product,
    licence: Licence,
    *,
    zone_ids: Collection[str],
    dates: Sequence[date],
) -> DataFrame:
    """Rows of a published table that the buyer may have: of `dates`, days or weeks or months.

    Of a flow both ends are the buyer's own, or `elsewhere`: the name of another zone, and that
    people go there, is not in the licence.
    """
    when = F.col(product.kept_by).isin(*dates)
    own = [F.col(name).isin(*zone_ids) for name in product.zone_columns]
    if len(own) == 1:
        return rows.where(when & own[0])
    ends = [
        is_own | (F.col(name) == F.lit(ELSEWHERE))
        for is_own, name in zip(own, product.zone_columns, strict=True)
    ]
    return rows.where(when & ends[0] & ends[1])


def delivery(parts: Mapping[Table, Part], *, name: str, delivered_at: datetime) -> Release:
    """One delivery of `licensed` rows, or of the lists beside them."""
    return Release(name, delivered_at, parts)


def new_parts(
    product: Product, licence: Licence, days: Collection[date], *, published: Collection[date]
) -> list[date]:
    """Days, weeks or months of a product that follow from `days`, where all they may be made of is
    licensed.
    """
    follow = {part for day in days for part in rollups.following(product, day, published)}
    return sorted(part for part in follow if licence.covers_all(*rollups.made_of(product, part)))
