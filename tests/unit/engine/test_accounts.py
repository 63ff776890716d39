"""A user that an image does not know gets a name in it."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import docker.errors
import pytest

from appliance.engine import accounts
from appliance.engine.accounts import GROUP, PASSWD, Account, known

ME = Account(1000, 100, "notebook", "/home/notebook")
LINE = "notebook:x:1000:100:notebook:/home/notebook:/bin/sh\n"


def test_who_is_not_there_is_added_to_what_lacks_it() -> None:
    passwd, group = "root:x:0:0::/root:/bin/sh\n", "root:x:0:\nusers:x:100:\n"
    assert known(ME, passwd, group) == {PASSWD: passwd + LINE}
    assert known(ME, "", "") == {PASSWD: LINE, GROUP: "notebook:x:100:\n"}
    assert known(ME, "jovyan:x:1000:100:::", group) == {}


def test_numbers_that_no_user_has_are_no_users() -> None:
    hostile = "x:x:" + "1" * 5000 + ":0:::\n"
    assert known(ME, hostile, "users:x:100:") == {PASSWD: hostile + LINE}


def test_a_file_without_a_last_line_end_and_a_name_that_is_taken() -> None:
    found = known(ME, "notebook:x:7:7::/:/bin/sh", "users:x:100:")
    assert found == {PASSWD: "notebook:x:7:7::/:/bin/sh\nnotebook1000:x:1000:100:notebook1000:/home/notebook:/bin/sh\n"}


@pytest.mark.parametrize("line", ["", ":::", "a", "x:y:²:3", "x:x:99999999999999999999:1"])
def test_odd_lines_are_kept(line: str) -> None:
    assert known(ME, f"{line}\n", "users:x:100:")[PASSWD] == f"{line}\n{LINE}"


class Api:
    """An engine with one container. `files`: path -> what a tar of it holds."""

    def __init__(self, files: dict[str, tarfile.TarInfo], text: bytes = b"") -> None:
        self.files, self.text = files, text
        self.put: list[bytes] = []

    def get_archive(self, container: str, path: str) -> tuple[list[bytes], dict[str, Any]]:
        if path not in self.files:
            raise docker.errors.NotFound(path)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.addfile(self.files[path], io.BytesIO(self.text))
        return [out.getvalue()], {"size": self.files[path].size, "linkTarget": self.files[path].linkname}

    def put_archive(self, container: str, path: str, data: bytes) -> bool:
        assert path == "/"
        self.put.append(data)
        return True


def entry(name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, size, link
    return found


def written(api: Api) -> dict[str, bytes]:
    found = {}
    for data in api.put:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for one in archive:
                file = archive.extractfile(one)
                assert file
                assert one.mode == 0o644
                found[one.name] = file.read()
    return found


def test_the_images_files_are_completed() -> None:
    api: Any = Api({PASSWD: entry("passwd", size=5)}, b"a:b\xff\n")
    accounts.write(api, "c", ME)
    assert written(api) == {"etc/passwd": b"a:b\xff\n" + LINE.encode(), "etc/group": b"notebook:x:100:\n"}


@pytest.mark.parametrize(
    "odd",
    [entry("passwd", tarfile.SYMTYPE, link="/x"), entry("passwd", tarfile.DIRTYPE), entry("passwd", tarfile.CHRTYPE)],
)
def test_what_is_no_plain_file_is_left_alone(odd: tarfile.TarInfo) -> None:
    api: Any = Api({PASSWD: odd})
    accounts.write(api, "c", ME)
    assert api.put == []
