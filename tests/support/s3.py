"""A real S3 server for tests: moto's, in a process of its own, which checks signatures and policies as Amazon does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import boto3

REGION = "us-east-1"
_SETTING_UP = 8
"""Requests that the server lets pass before it asks who is there."""


class Bucket:
    """One bucket of a server, a user who may read it, and one who may not."""

    def __init__(self, endpoint: str, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        root = {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
        iam = boto3.client("iam", endpoint_url=endpoint, region_name=REGION, **root)
        self.access_key, self.secret = _user(iam, "reader", allowed=True)
        self.stranger = _user(iam, "stranger", allowed=False)
        boto3.client("s3", endpoint_url=endpoint, region_name=REGION, **root).create_bucket(Bucket=name)
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret,
        )

    def put(self, objects: Mapping[str, bytes]) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda key: self.client.put_object(Bucket=self.name, Key=key, Body=objects[key]), objects))


def _user(iam: Any, name: str, *, allowed: bool) -> tuple[str, str]:
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    if allowed:
        statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=document)
    return key["AccessKeyId"], key["SecretAccessKey"]


@contextmanager
def serve_s3(host: str = "127.0.0.1", bucket: str = "the-bucket") -> Iterator[Bucket]:
    """An empty bucket on a server of its own."""
    argv = [sys.executable, "-m", "moto.server", "-H", host, "-p", "0"]
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(_SETTING_UP - 2)}
    with subprocess.Popen(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        reader = threading.Thread(target=process.stderr.read, daemon=True)
        try:
            lines = iter(process.stderr)
            port = next(found[1] for line in lines if (found := re.search(r"http://[\d.]+:(\d+)", line)))
            reader.start()
            yield Bucket(f"http://{host}:{port}", bucket)
        finally:
            process.kill()
            if reader.ident is not None:
                reader.join()  # before what it reads is closed
