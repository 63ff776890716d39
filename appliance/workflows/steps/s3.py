"""What `s3-download@v1` fetches, from where and into which directory. Pure; `inside.s3_download` does it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from appliance.errors import UsageError
from appliance.spec.models import Job, S3DownloadAction
from appliance.workflows.steps import inside
from appliance.workflows.steps.targets import target_of

IMAGE = "appliance/s3"

_ADDRESS = re.compile(r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9.-]{2,62})(?:/(?P<prefix>.*))?", re.DOTALL)


def files_of(action: S3DownloadAction, job: Job, access_key: str, secret_access_key: str) -> dict[str, str]:
    """File name -> content for the private mount; the keys are in place. Raises UsageError."""
    bucket, prefix = address_of(action.url)
    request = {
        "bucket": bucket,
        "prefix": prefix,
        "region": action.region,
        "endpoint": endpoint_of(action.endpoint),
        "target": target_of(action.path, job, "what is downloaded"),
        "access_key": access_key.strip(),
        "secret_access_key": secret_access_key.strip(),
    }
    return inside.files_of("s3_download", request)


def address_of(url: str) -> tuple[str, str]:
    """Bucket and prefix. Raises UsageError."""
    found = _ADDRESS.fullmatch(url)
    if found is None:
        raise UsageError(f"`url` is not a bucket address: {url!r}", hint="such as s3://bucket/path/")
    return found["bucket"], found["prefix"] or ""


def endpoint_of(text: str) -> str:
    """With its protocol; empty: Amazon's own. Raises UsageError."""
    if not text:
        return ""
    url = text if "://" in text else f"https://{text}"
    try:
        address = urlsplit(url)
        known = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        known = False
    if not known or "@" in url or re.search(r"[\x00-\x20\x7f]", url):
        hint = "such as https://fra1.digitaloceanspaces.com"
        raise UsageError("`endpoint` is not the address of a server", hint=hint)
    return url.rstrip("/")
