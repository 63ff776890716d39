"""What of a bucket is fetched, from where and into which folder of a container. Pure; `inside.s3_download` does it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from appliance.errors import UsageError
from appliance.fetching import programs

IMAGE = "appliance/s3"
PROGRAM = "s3_download"
SPACES = ".digitaloceanspaces.com"

_ADDRESS = re.compile(r"s3://(?P<bucket>[A-Za-z0-9][A-Za-z0-9.-]{2,62})(?:/(?P<prefix>.*))?", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{2,62}")


def files_of(
    bucket: str, prefix: str, *, region: str, endpoint: str, target: str, access_key: str, secret_access_key: str
) -> dict[str, str]:
    """File name -> content for the private mount. Without keys the bucket is asked without a login."""
    request = {
        "bucket": bucket,
        "prefix": prefix,
        "region": region,
        "endpoint": endpoint,
        "target": target,
        "access_key": access_key.strip(),
        "secret_access_key": secret_access_key.strip(),
    }
    return programs.files_of(PROGRAM, request)


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


def spaces_of(endpoint: str) -> tuple[str, str, str]:
    """Server, bucket and prefix of an endpoint that names its bucket: before the host, as DigitalOcean shows it, or as
    the first folder of its path. Raises UsageError.
    """
    url = endpoint_of(endpoint)
    address = urlsplit(url)
    host, path = address.hostname or "", address.path.strip("/")
    bucket, _, rest = host.partition(".")
    named = rest.endswith(SPACES) if host.endswith(SPACES) else not path and bool(rest)
    if named:
        server, prefix = f"{address.scheme}://{address.netloc.partition('.')[2]}", path
    else:
        server = f"{address.scheme}://{address.netloc}"
        bucket, _, prefix = path.partition("/")
    if not _BUCKET.fullmatch(bucket):
        hint = "such as https://BUCKET.fra1.digitaloceanspaces.com"
        raise UsageError(f"`endpoint` names no bucket: {endpoint!r}", hint=hint)
    return server, bucket, prefix
