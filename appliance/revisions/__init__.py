"""The revisions of a deployment: what was declared, what its replicas are made of, and the way back."""

from appliance.revisions.declaring import KIND, declare, parse_spec, restart, roll_back, scale, serving
from appliance.revisions.preview import Preview, preview
from appliance.revisions.telling import Difference, Entry, diff, forget_old, history

__all__ = [
    "KIND",
    "Difference",
    "Entry",
    "Preview",
    "declare",
    "diff",
    "forget_old",
    "history",
    "parse_spec",
    "preview",
    "restart",
    "roll_back",
    "scale",
    "serving",
]
