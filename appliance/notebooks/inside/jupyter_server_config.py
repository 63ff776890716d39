"""Read by Jupyter itself, in a notebook's session, before its extensions are loaded: what lies beside this file can be
imported then. Settings are in the file of the same name that ends with `.json`."""

import os
import sys
from contextlib import suppress

COOKIES = "/etc/appliance/lab/cookie-secret"
LEAST_BYTES = 32

sys.path.append("/etc/appliance/jupyter")
with suppress(OSError):
    if os.path.getsize(COOKIES) < LEAST_BYTES:  # a full disk has cut it short: what it signs could be forged
        os.unlink(COOKIES)
with suppress(Exception):
    import appliance_kept

    appliance_kept.look(os.path.dirname(COOKIES))
