"""Why nothing may begin on a notebook's files at present, in words with the next step; empty: it may."""

from __future__ import annotations

from collections.abc import Callable

from appliance.errors import Conflict
from appliance.notebooks.beginning import Beginning
from appliance.notebooks.executing.orders import Orders
from appliance.notebooks.making import Making
from appliance.notebooks.ownership import Ownership
from appliance.notebooks.quotas import Quotas
from appliance.spec.models import Notebook
from appliance.state.resources import Resource


class Bars:
    def __init__(
        self,
        *,
        making: Making,
        quotas: Quotas,
        orders: Orders,
        beginning: Beginning,
        ownership: Ownership,
        no_room: Callable[[], str],
    ) -> None:
        self._making = making
        self._quotas = quotas
        self._orders = orders
        self._beginning = beginning
        self._ownership = ownership
        self._no_room = no_room

    def session(self, notebook: Resource, spec: Notebook) -> str:
        """Of a session."""
        return (
            self._making.missing(spec)
            or self._quotas.refusal(notebook.uid, spec)
            or self._no_room()
            or self._orders.as_another(notebook, spec.user)
        )

    def beside(self, notebook: Resource, spec: Notebook) -> str:
        """Of what runs on its files beside a session."""
        if self._beginning.needed(notebook, spec):
            return f"its files have not come yet; `appliance notebook start {notebook.name}` fetches them"
        return (
            self._making.missing(spec)
            or self._quotas.refusal(notebook.uid, spec)
            or self._orders.as_another(notebook, spec.user)
            or self._taken(notebook, spec)
        )

    def check_next(self, notebook: Resource, spec: Notebook) -> None:
        """No session that goes on is ended by its user's wish for another where none could follow. Raises Conflict."""
        if why := self.session(notebook, spec):
            raise Conflict(
                f"no session could follow the one of notebook {notebook.name!r}; nothing was changed: {why}",
                hint=f"`appliance notebook stop {notebook.name}` ends it nevertheless",
            )

    def _taken(self, notebook: Resource, spec: Notebook) -> str:
        """The session that goes on is another user's: it is not to lose the files."""
        owner = self._ownership.other(notebook, spec) if notebook.status.get("started") else ""
        return f"the session that goes on works on the files as user {owner}: wait for the next one" if owner else ""
