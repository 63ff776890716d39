"""`appliance metrics`: tables, charts, files and comparisons of what a client answers; foreign text never obeyed."""

from __future__ import annotations

import argparse
import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import metrics, render
from appliance.errors import NotFound, UsageError

NOW = 1_800_000_000.0
CPU = "container_cpu_percent"


def series(metric: str, *values: float, name: str = "fit.3", steps: bool = False, **more: Any) -> dict[str, Any]:
    points: list[dict[str, Any]] = [{"at": NOW - 100 + n, "value": value} for n, value in enumerate(values)]
    if steps:
        points = [{**point, "step": 10 * n} for n, point in enumerate(points)]
    about = {"kind": "run", "name": name, "part": "train", "container": "c", "metric": metric, "labels": {}}
    return {**about, "points": points, "cut": False, **more}


class FakeClient:
    def __init__(self, *found: dict[str, Any], runs: Any = None) -> None:
        self.found = list(found)
        self.runs: dict[str, Any] = runs if runs is not None else {"fit.3": self.run("fit.3")}
        self.asked: list[dict[str, Any]] = []

    @staticmethod
    def run(name: str, began: float | None = NOW - 100, ended: float | None = NOW) -> dict[str, Any]:
        return {"name": name, "started": began, "finished": ended}

    def get(self, kind: str, name: str) -> Any:
        if name not in self.runs:
            raise NotFound(f"no {kind} {name}")
        return self.runs[name]

    def metrics(self, **query: Any) -> list[dict[str, Any]]:
        self.asked.append(query)
        return [one for one in self.found if all(not query.get(key) or one[key] == query[key] for key in
                ("kind", "name", "part", "metric"))]  # fmt: skip

    def metric_names(self, **query: Any) -> list[dict[str, Any]]:
        return [one for one in self.found if all(not value or one[key] == value for key, value in query.items())]

    def follow_metrics(self, **query: Any) -> Iterator[dict[str, Any]]:
        self.asked.append(query)
        yield from self.found


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def show(client: FakeClient, *arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(render, "client", lambda: client)
        parser = argparse.ArgumentParser()
        metrics.configure_metrics(parser)
        parsed = parser.parse_args(arguments)
        assert parsed.run(parsed) == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    return show


def test_a_subject_alone_is_a_table_with_the_course_of_each(shown: Any) -> None:
    client = FakeClient(series(CPU, 50, 150), series("loss", 1.0, 0.5, 0.25))
    out, err = shown(client, "run/fit.3")
    header, loss, cpu = out.splitlines()
    assert header.split() == ["METRIC", "PART", "LAST", "MIN", "MEAN", "MAX", "POINTS", "COURSE"]
    assert loss.split() == ["loss", "train", "0.25", "0.25", "0.5833", "1", "3", "█▃▁"]
    assert cpu.split() == [CPU, "train", "150%", "50%", "100%", "150%", "2", "▁█"]
    assert err == ""
    assert client.asked == [
        {"kind": "run", "name": "fit.3", "part": "", "since": NOW - 100, "limit": 100_000, "every": 0.0, "metric": ""}
    ]


def test_a_named_metric_is_drawn_by_its_steps(shown: Any) -> None:
    out, _ = shown(FakeClient(series("loss", 1.0, 0.5, steps=True), series(CPU, 5)), "run/fit.3/train", "loss")
    assert CPU not in out
    assert "\nloss\n" in out
    assert "10 step" in out
    assert "┤" in out


def test_metrics_of_a_run_that_is_deleted_are_still_shown(shown: Any) -> None:
    client = FakeClient(series("loss", 1.0), runs={})
    out, _ = shown(client, "run/fit.3")
    assert "loss" in out
    assert client.asked[0]["since"] == 0.0


def test_what_goes_on_is_shown_for_an_hour_back_or_as_asked(shown: Any) -> None:
    client = FakeClient(series("machine_cpu_percent", 1.0, kind="machine", name="", part=""))
    shown(client, "machine")
    shown(client, "machine", "--since", "10m", "--every", "1m")
    assert [(query["kind"], query["since"], query["every"]) for query in client.asked] == [
        ("machine", NOW - 3600, 0.0),
        ("machine", NOW - 600, 60.0),
    ]


def test_of_a_long_run_what_is_sampled_comes_as_means_and_the_rest_whole(shown: Any) -> None:
    client = FakeClient(series("loss", 1.0), series(CPU, 5), runs={"fit.3": FakeClient.run("fit.3", NOW - 86_400)})
    shown(client, "run/fit.3")
    assert {query["metric"]: query["every"] for query in client.asked} == {"loss": 0.0, CPU: 60.0}
    client.asked.clear()
    shown(client, "run/fit.3", "-o", "csv")
    assert [query["every"] for query in client.asked] == [0.0]


def test_the_newest_run_of_a_workflow_is_meant_by_its_name(shown: Any) -> None:
    client = FakeClient(series("loss", 1.0), runs={"fit": FakeClient.run("fit.3")})
    assert "loss" in shown(client, "run/fit")[0]


def test_points_that_are_not_shown_are_told(shown: Any) -> None:
    assert "only the newest 1 points" in shown(FakeClient(series("loss", 1.0, cut=True)), "run/fit.3")[1]


def test_json_and_csv_hold_every_point_as_it_is(shown: Any) -> None:
    one = series("container_io_read_bytes_total", 100, 300)
    one["points"][1] |= {"step": 7, "least": 1.0, "most": 2.0}
    one["labels"] = {"a": 'b"c'}
    assert json.loads(shown(FakeClient(one), "run/fit.3", "-o", "json")[0]) == [one]
    header, first, second = csv.reader(io.StringIO(shown(FakeClient(one), "run/fit.3", "-o", "csv")[0]))
    assert header == list(metrics.COLUMNS)
    assert dict(zip(header, second, strict=True)) == {
        "at": str(NOW - 99), "kind": "run", "name": "fit.3", "part": "train", "container": "c",
        "metric": "container_io_read_bytes_total", "labels": '{"a": "b\\"c"}', "value": "300", "step": "7",
        "least": "1.0", "most": "2.0",
    }  # fmt: skip
    assert first[-3:] == ["", "", ""]


def test_without_a_subject_it_lists_who_has_metrics(shown: Any) -> None:
    machine = series("machine_cpu_percent", 1.0, kind="machine", name="", part="")
    client = FakeClient(series("loss", 1.0), series(CPU, 1.0), machine)
    out, _ = shown(client)
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["machine", "1", "machine_cpu_percent"],
        ["run/fit.3/train", "2", "loss,", CPU],
    ]
    assert "nothing was measured yet" in shown(FakeClient())[1]


def test_what_is_not_there_is_not_found_and_what_has_nothing_yet_is_told(shown: Any) -> None:
    with pytest.raises(NotFound, match=r"no runs fit\.9"):
        shown(FakeClient(), "run/fit.9")
    out, err = shown(FakeClient(), "run/fit.3")
    assert (out, err) == ("", "run/fit.3: nothing was measured yet\n")
    with pytest.raises(NotFound, match="no lass") as caught:
        shown(FakeClient(series("loss", 1.0)), "run/fit.3", "lass")
    assert caught.value.hint == "it has loss"


@pytest.mark.parametrize(
    "arguments",
    [
        ["dataset/x"],
        ["loss"],
        ["run/"],
        ["--compare", "run/fit.3"],
        ["--compare", "run/fit.3", "loss"],
        ["run/fit.3", "-f", "--png", "x"],
        ["-f", "--compare", "run/a.1", "run/b.1"],
        ["run/fit.3", "-f", "--every", "5"],
        ["-m", "loss"],
        ["run/fit.3", "--since", "soon"],
    ],
)
def test_words_without_sense_are_a_usage_error(shown: Any, arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        shown(FakeClient(), *arguments)


@pytest.mark.parametrize("text", ["0", "x", "5w", "-1", "1e3", ""])
def test_a_width_is_a_time(text: str) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    metrics.configure_metrics(parser)
    with pytest.raises(argparse.ArgumentError):
        parser.parse_args(["machine", f"--every={text}"])


RUNS = {name: FakeClient.run(name) for name in ("fit.3", "fit.4")}
PAIR = (
    series("loss", 1.0, 0.5, 0.25, steps=True),
    series("loss", 2.0, 0.125, steps=True, name="fit.4"),
    series(CPU, 100),
)


def test_runs_are_compared_in_a_table_and_drawn_together(shown: Any) -> None:
    out, err = shown(FakeClient(*PAIR, runs=RUNS), "--compare", "run/fit.3", "run/fit.4")
    rows = [line.split() for line in out.splitlines()[:4]]
    assert rows[1] == ["loss", "run/fit.3", "1", "0.25", "0.25", "1", "0.5833", "3"]
    assert rows[2] == ["run/fit.4", "2", "0.125", "0.125", "2", "1.062", "2"]
    assert rows[3][:3] == [CPU, "run/fit.3", "100%"]
    assert "1 run/fit.3\n2 run/fit.4" in out
    assert "20 step" in out
    assert err == ""


def test_metrics_are_named_after_those_that_are_compared(shown: Any) -> None:
    for arguments in (["--compare", "run/fit.3", "run/fit.4", CPU], ["run/fit.3", "--compare", "run/fit.4", "-m", CPU]):
        with pytest.raises(NotFound, match=f"no {CPU}") as caught:
            shown(FakeClient(*PAIR, runs=RUNS), *arguments)
        assert caught.value.where == "run/fit.4"


def test_a_comparison_as_data(shown: Any) -> None:
    found = json.loads(shown(FakeClient(*PAIR, runs=RUNS), "--compare", "run/fit.3", "run/fit.4", "-o", "json")[0])
    assert [(one["metric"], one["along"]) for one in found] == [("loss", "step"), (CPU, "elapsed")]
    assert found[0]["sides"][1] == {
        "whose": "run/fit.4", "first": 2.0, "last": 0.125, "least": 0.125, "most": 2.0, "mean": 1.0625, "points": 2,
        "x": [0.0, 10.0], "values": [2.0, 0.125],
    }  # fmt: skip
    out = shown(FakeClient(*PAIR, runs=RUNS), "--compare", "run/fit.3", "run/fit.4", "loss", "-o", "csv")[0]
    assert out.splitlines()[:2] == ["metric,part,whose,along,x,value", "loss,,run/fit.3,step,0.0,1.0"]


def test_many_metrics_are_drawn_only_when_they_are_named(shown: Any) -> None:
    client = FakeClient(*(series(f"m{n}", 1.0, 2.0, name=name) for n in range(6) for name in RUNS), runs=RUNS)
    out, err = shown(client, "--compare", "run/fit.3", "run/fit.4")
    assert "\nm3\n" in out
    assert "\nm4\n" not in out
    assert "2 more are not drawn" in err
    assert "\nm4\n" in shown(client, "--compare", "run/fit.3", "run/fit.4", "m4")[0]


def test_pictures_are_written_and_a_folder_that_is_not_there_is_told(shown: Any, tmp_path: Path) -> None:
    png, svg = tmp_path / "a.png", tmp_path / "a.svg"
    _, err = shown(FakeClient(*PAIR, runs=RUNS), "run/fit.3", "--png", str(png), "--svg", str(svg))
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b">loss<" in svg.read_bytes()
    assert "2 of 2 charts" in err
    shown(FakeClient(*PAIR, runs=RUNS), "--compare", "run/fit.3", "run/fit.4", "loss", "--svg", str(svg))
    assert svg.read_bytes().count(b"fit.") == 2
    with pytest.raises(UsageError, match="cannot be written"):
        shown(FakeClient(*PAIR), "run/fit.3", "--png", str(tmp_path / "none" / "a.png"))
    with pytest.raises(NotFound, match="nothing to draw"):
        shown(FakeClient(), "run/fit.3", "--png", str(png))


def test_each_new_point_is_a_line(shown: Any) -> None:
    client = FakeClient(series("loss", 0.5, steps=True), series("container_io_read_bytes_total", 5), series("x", 1))
    out, _ = shown(client, "run/fit.3", "loss", "container_io_read_bytes_total", "-f")
    assert [line.split()[2:] for line in out.splitlines()] == [
        ["train", "|", "loss", "0.5", "step", "0"],
        ["train", "|", "container_io_read_bytes_total", "5"],
    ]
    assert client.asked[-1] == {"kind": "run", "name": "fit.3", "part": "", "metric": "", "limit": 1}
    shown(client, "run/fit.3", "x", "-f", "--since", "1m")
    assert (client.asked[-1]["metric"], client.asked[-1]["since"]) == ("x", NOW - 60)
    out, _ = shown(client, "run/fit.3", "-f", "-o", "json")
    assert [json.loads(line) for line in out.splitlines()] == client.found
    assert len(shown(client, "run/fit.3", "-f", "-o", "csv")[0].splitlines()) == 4


def test_names_and_labels_are_shown_and_never_obeyed(shown: Any) -> None:
    client = FakeClient(series("lo\x1b[31mss", 1.0, 2.0, part="p\x07", labels={"k\x1b": "v\n"}))
    for arguments in (["run/fit.3"], ["run/fit.3", "-f"], ["run/fit.3", "lo\x1b[31mss"]):
        out, err = shown(client, *arguments)
        assert "\x1b" not in out + err
        assert "\x07" not in out + err
