"""Questions in SQL, and what can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from appliance.client.transport import Transport

if TYPE_CHECKING:
    from appliance import wire


class Sql(Transport):
    """`more` of a question is `limit timeout_s id`, as in the wire's SqlRequest."""

    def sql(self, query: str, **more: Any) -> wire.SqlAnswer:
        """As long as `timeout_s` allows; closing the client from another thread ends it."""
        import json  # deferred: only this one reads a whole answer

        with self.sql_answer(query, **more) as response:
            return cast("wire.SqlAnswer", json.loads(response.read()))

    @contextmanager
    def sql_answer(self, query: str, **more: Any) -> Iterator[HTTPResponse]:
        """The answer as it comes, in the `format` of `more`; leaving early ends the question."""
        with self._answer("/v1/sql", {}, {"query": query, **more}) as response:
            yield response

    def cancel_sql(self, question_id: str) -> None:
        self._json("DELETE", f"/v1/sql/{quote(question_id, safe='')}")

    def running_sql(self) -> list[wire.SqlRunning]:
        return cast("list[wire.SqlRunning]", self._json("GET", "/v1/sql")["items"])

    def sql_tables(self) -> list[wire.SqlTable]:
        """With their columns."""
        return cast("list[wire.SqlTable]", self._json("GET", "/v1/sql/tables")["items"])

    def ready_sql(self) -> list[wire.SqlReady]:
        """Ready queries, by name."""
        return cast("list[wire.SqlReady]", self._json("GET", "/v1/sql/ready")["items"])
