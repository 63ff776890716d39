"""What tells a program in a container where to push its metrics, and as whom. Pure.

The names are Gradient's: its `gradient-utils` reads them and does the rest by itself.
"""

from __future__ import annotations

HOST = "host.docker.internal"
"""How containers call the machine that they are on."""


def environment(kind: str, uid: str, port: int) -> dict[str, str]:
    """`kind` and `uid` are those of the resource or run; what is pushed is its in any case. Port 0: nothing listens."""
    gateway = {"PAPERSPACE_METRIC_PUSHGATEWAY": f"http://{HOST}:{port}"} if port else {}
    return {**gateway, "PAPERSPACE_METRIC_WORKLOAD_ID": uid, "PAPERSPACE_METRIC_WORKLOAD_TYPE": kind}
