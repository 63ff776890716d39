"""Errors that end a job while it is prepared or done by the daemon, and which of them another attempt may cure.

A registry that does not answer, a deployment that does not come up, a disk that is full: a later attempt may find them
otherwise. A secret, a dataset or an image that is not there, and a document that is refused, stay so until somebody
does something: attempts with pauses between them only hide that, so there are none.
"""

from __future__ import annotations

from appliance.errors import ApplianceError, Conflict, EngineError, NoSuchImage, NotFound, StorageError, UsageError
from appliance.workflows.outcome import Outcome
from appliance.workflows.telling import words

REFUSALS = (NotFound, UsageError, Conflict, EngineError, StorageError)
"""Errors that end a job when they come while it is prepared: to look again would not make them go away."""


class Settled(Conflict):
    """A clash that somebody has to end: it was stopped by hand, a newer one took its place."""


_LASTING = (NotFound, UsageError, NoSuchImage, Settled)


def refused(error: ApplianceError) -> Outcome:
    return Outcome("Error", words(error), hopeless=isinstance(error, _LASTING))
