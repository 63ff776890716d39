"""The one HTTP client, over the unix socket or over TCP with the token.

Blocking; not for several threads at once. A stream has a connection of its own, so it may be read beside calls.
"""

from __future__ import annotations

from appliance.client.backups import Backups
from appliance.client.datasets import Datasets
from appliance.client.deployments import Deployments
from appliance.client.executions import Executions
from appliance.client.gpus import Gpus
from appliance.client.metrics import Metrics
from appliance.client.notebook_life import NotebookLife
from appliance.client.notebooks import Notebooks
from appliance.client.pushes import Pushes
from appliance.client.records import Records
from appliance.client.registries import Registries
from appliance.client.runs import Runs
from appliance.client.sql import Sql
from appliance.client.terminals import Terminals
from appliance.client.transfer import Transfer

__all__ = ["Client"]


class Client(
    Records,
    Metrics,
    Sql,
    Pushes,
    Notebooks,
    NotebookLife,
    Executions,
    Runs,
    Deployments,
    Terminals,
    Datasets,
    Transfer,
    Backups,
    Registries,
    Gpus,
):
    """`socket` for a daemon on this machine, else `url` and `token`. Every method raises ApplianceError."""
