"""What was measured: series of points, as they are stored and as they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from appliance.client.transport import Transport

if TYPE_CHECKING:
    from appliance import wire


class Metrics(Transport):
    """A query has `kind name part metric since until every limit`; what is empty or 0 matches all."""

    def metrics(self, **query: object) -> list[wire.MetricSeries]:
        """`since` and `until` in unix seconds, `every` in seconds, `limit` points of each series, the newest."""
        return cast("list[wire.MetricSeries]", self._json("GET", "/v1/metrics", query)["items"])

    def metric_names(self, **query: object) -> list[wire.MetricName]:
        """Which metrics there are, and whose. Of the query `kind name part metric` count."""
        return cast("list[wire.MetricName]", self._json("GET", "/v1/metrics/names", query)["items"])

    def follow_metrics(self, **query: object) -> Iterator[wire.MetricSeries]:
        """Endless: what `metrics` answers, then each series that has new points, with those only."""
        return cast("Iterator[wire.MetricSeries]", self.stream("/v1/metrics", {**query, "follow": 1}))
