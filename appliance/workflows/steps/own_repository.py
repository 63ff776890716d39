"""The repository that a run is of, where only such a run may check it out: one of this machine, and one over SSH.

No spec and no message chooses a path of this machine, or a server that is met with a private key: a run counts for the
repository that has started it, by the repository's id, and the address must be that repository's own. Over SSH the
run's jobs expect the server that polling has met, by the keys that counted there, and run nowhere without them.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.errors import UsageError
from appliance.spec import address
from appliance.spec.address import Address
from appliance.spec.models import GitCheckoutAction, Job, Workflow
from appliance.spec.refs import EVENT_URL
from appliance.state import resources, triggers
from appliance.state.db import Connection

COUNTS_FOR = "repository:"
"""How the `workflow_uid` of a run begins that a repository started; the repository's uid and a colon follow."""
KNOWN_HOSTS = "known-hosts"
"""The mark of a repository under which polling keeps what it met its server by: its keys, or who vouches for them."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a job's checkout gets of it; empty where it needs nothing."""

    path: str = ""
    known_hosts: str = ""


NOTHING = Given()


def refused(db: Connection, workflow_uid: str, workflow: Workflow) -> str:
    """Why a run that counts for `workflow_uid` may not be made, in words; empty: it may."""
    url = workflow.event.get("url", "")
    names = [name for name, job in workflow.jobs.items() if _takes_event(job)]
    found = _special(url)
    if not names or not found or _declared(db, workflow_uid, url):
        return ""
    what = "a path of this machine" if found.way == "local" else "an address over SSH"
    return (
        f"job {names[0]}: {address.shown(url)} is {what}, which only a run checks out that a push to the repository "
        "of that address has started; declare it (kind: repository), or use an address over https"
    )


def given(db: Connection, workflow_uid: str, workflow: Workflow, job: Job) -> Given:
    """Raises UsageError."""
    url = workflow.event.get("url", "")
    found = _special(url) if _takes_event(job) else None
    if found is None:
        return NOTHING
    repository = _declared(db, workflow_uid, url)
    if not repository:
        shown = address.shown(url)
        raise UsageError(f"no repository at {shown} is declared any more", hint="apply it again (kind: repository)")
    if found.way == "local":
        return Given(path=found.path)
    known = triggers.find(db, repository, KNOWN_HOSTS) or ""
    if not known.strip():
        told = f"no key of the server of {address.shown(url)} is known, so it could not be told from another one"
        hint = "the next look at the repository notes it, where the disk is not full; then start the run again"
        raise UsageError(told, hint=hint)
    return Given(known_hosts=known)


def _declared(db: Connection, workflow_uid: str, url: str) -> str:
    """The uid of the repository that the run counts for, where it is declared with this very address."""
    if not workflow_uid.startswith(COUNTS_FOR):
        return ""
    found = resources.find_uid(db, workflow_uid.removeprefix(COUNTS_FOR).partition(":")[0])
    is_it = found is not None and found.kind == "repository" and not found.deleting and found.spec.get("url") == url
    return found.uid if found and is_it else ""


def _takes_event(job: Job) -> bool:
    return isinstance(job.action, GitCheckoutAction) and job.action.url == EVENT_URL


def _special(url: str) -> Address | None:
    """None: anybody's run may check it out."""
    found = address.parse(url)
    return found if found and found.way in ("local", "ssh") else None
