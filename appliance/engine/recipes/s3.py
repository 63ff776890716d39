"""`appliance/s3`: what `s3-download@v1` runs in.

boto3 is Amazon's own client, released every working day: it knows every way of signing and addressing that servers of
this protocol ask for, pages through listings, and fetches a large object in parts that it tries again by themselves.
"""

from __future__ import annotations

from appliance.engine.recipes.base import BASE
from appliance.engine.recipes.recipe import Recipe

S3 = Recipe(
    ref="appliance/s3:latest",
    parent=BASE.ref,
    python=("boto3>=1.40",),
    check=("python3", "-c", "import boto3, s3transfer"),
)
