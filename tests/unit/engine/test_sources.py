from __future__ import annotations

import pytest

from appliance.engine.recipes import sources

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n'
DEB822 = """# comment
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://vendor.example/repo
Suites: nodistro
Components: main
"""


@pytest.mark.parametrize(
    ("text", "suite"),
    [
        (DEBIAN, "bookworm"),
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\nUBUNTU_CODENAME=noble\n", "noble"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n', "noble"),
        ('ID=fedora\nVERSION_CODENAME=""\n', ""),
        ("ID=arch\n", ""),
        ("", ""),
    ],
)
def test_the_suite_of_a_host(text: str, suite: str) -> None:
    assert sources.codename(text) == suite


def test_only_the_distributions_own_sources_are_taken() -> None:
    files = {
        "/etc/apt/sources.list": "deb http://m.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian-security bookworm-security main\n"
        "# deb http://m.example/debian bookworm contrib\n"
        "deb-src http://m.example/debian bookworm main\n"
        "deb https://vendor.example/apt cloud-bookworm main\n"
        "deb https://other.example/apt ./\n",
        "/etc/apt/sources.list.d/debian.sources": DEB822,
    }
    found = sources.distribution_sources(files, "bookworm")
    assert found.one_line.splitlines() == [
        "deb http://m.example/debian bookworm main",
        "deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian-security bookworm-security main",
    ]
    assert "mirror.example" in found.deb822
    assert "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" in found.deb822
    assert "vendor.example" not in found.deb822


def test_sources_that_follow_an_alias_are_taken() -> None:
    found = sources.distribution_sources({"a.list": "deb http://m.example/debian stable main\n"}, "bookworm")
    assert found.one_line == "deb http://m.example/debian stable main\n"


def test_a_disabled_stanza_is_left_out() -> None:
    assert (
        sources.distribution_sources({"a.sources": "Enabled: no\n" + DEB822.split("\n", 1)[1]}, "bookworm").deb822 == ""
    )


def test_a_key_inside_a_stanza_stays_whole() -> None:
    stanza = (
        "Types: deb\nURIs: http://m.example\nSuites: noble\nComponents: main\nSigned-By:\n -----BEGIN\n .\n mQINBF\n"
    )
    assert sources.distribution_sources({"a.sources": stanza}, "noble").deb822 == stanza


def test_no_sources() -> None:
    assert sources.distribution_sources({}, "bookworm") == sources.Sources("", "")


def test_how_the_host_reaches_its_mirrors() -> None:
    dump = (
        'APT::Architecture "amd64";\nAcquire::http::Proxy "http://proxy.example:3142";\n'
        'Acquire::https::CaInfo "/etc/ssl/corp.pem";\nAcquire::Check-Valid-Until "false";\nAcquire::Languages "";\n'
        'Acquire::cdrom::mount "/media";\nDPkg::Post-Invoke:: "rm -f /x";\n'
    )
    assert sources.apt_options(dump) == [
        'Acquire::http::Proxy "http://proxy.example:3142";',
        'Acquire::https::CaInfo "/etc/ssl/corp.pem";',
        'Acquire::Check-Valid-Until "false";',
    ]
