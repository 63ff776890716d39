"""What `s3-download@v1` fetches, from where and into which directory. Pure; `fetching.inside.s3_download` does it."""

from __future__ import annotations

from appliance.fetching import s3
from appliance.spec.models import Job, S3DownloadAction
from appliance.workflows.steps.targets import target_of


def files_of(action: S3DownloadAction, job: Job, access_key: str, secret_access_key: str) -> dict[str, str]:
    """File name -> content for the private mount; the keys are in place. Raises UsageError."""
    bucket, prefix = s3.address_of(action.url)
    return s3.files_of(
        bucket,
        prefix,
        region=action.region,
        endpoint=s3.endpoint_of(action.endpoint),
        target=target_of(action.path, job, "what is downloaded"),
        access_key=access_key,
        secret_access_key=secret_access_key,
    )
