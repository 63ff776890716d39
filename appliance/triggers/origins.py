"""Which server a signed message may name where a checkout has credentials. Pure.

Who knows the secret of a webhook is trusted to say that something was pushed, and not with the token of the git server:
a checkout of `context.event.github.url` with a user name or password is made only from a server, as scheme, host and
port, that was declared here, in the workflow's own file or as a repository.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.spec import address
from appliance.spec.models import GitCheckoutAction, Job, Workflow
from appliance.spec.refs import EVENT_URL
from appliance.workflows.steps.checkout import OLD_PASSWORD, OLD_USER

_SHOWN = 200


def refused(spec: Workflow, url: str, declared: Iterable[str]) -> str:
    """Why a run may not check out `url`, in words; empty: it may. `declared` are the addresses of repositories."""
    job = next((name for name, job in spec.jobs.items() if _tells(job)), "")
    if not job:
        return ""
    trusted = {_origin(address) for address in (spec.event.get("url", ""), *declared)} - {None}
    if _origin(url) in trusted:
        return ""
    shown = "/".join(url.split("/")[:3])[:_SHOWN].encode("ascii", "backslashreplace").decode()
    return (
        f"job {job} would send its credentials to {shown}, a server that nobody has declared: apply a repository with "
        f"an address there, or write that server's address as {EVENT_URL} into the workflow's file"
    )


def _tells(job: Job) -> bool:
    action = job.action
    if not isinstance(action, GitCheckoutAction) or action.url != EVENT_URL:
        return False
    return bool(action.username or action.password or job.env.get(OLD_USER) or job.env.get(OLD_PASSWORD))


def _origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None: it is no address over HTTP."""
    found = address.parse(url)
    return found.server if found else None
