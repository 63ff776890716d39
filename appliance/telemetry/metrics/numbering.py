"""Which number stands for which series, and how many series one subject may have. Pure.

A label whose value is new each time (an id, a path, a moment) makes a new series each time: such a program would fill
memory and disk with names. So a subject has at most `MOST_SERIES`, and what is beyond them is left out and told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from appliance.telemetry.database import METRICS, SERIES
from appliance.telemetry.metrics.types import Labels, Sample, Subject

MOST_SERIES = 2000
"""Of one subject. A histogram with its buckets is a dozen, a model's every layer some hundreds."""
MOST_REMEMBERED = 100_000
"""Series in all that are known by heart; each is a few hundred bytes. Beyond them the tenth that had no sample for the
longest time is forgotten: such a series gets another number with its next sample."""
MOST_VALUE = 1e300
"""What is beyond it, either way, has no mean with others."""
MOST_TEXT = 1000
"""Characters of a metric's name, of a label's name and of its value; most tools allow a few hundred."""
MOST_LABELS = 30
"""Of one series: Prometheus is commonly limited to as many."""
AHEAD_S = 300.0
"""A sample may be so far in the future: clocks differ a little. One beyond is left out, it would never be retired."""
EARLIEST = 0.0
LATEST = 253_402_300_799.0
"""The last second of the year 9999: beyond it there is no date."""
_STEPS = 1 << 63

Identity = tuple[Subject, str, Labels]
Row = tuple[Any, ...]


@dataclass(slots=True)
class Numbered:
    """Samples as rows, and what was left out, each reason with how many samples."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


class Numbering:
    """Numbers of series. Every new one's row is in the answer in which it is first used."""

    def __init__(self) -> None:
        self.next = 1
        """First number that is free."""
        self._known: dict[Identity, int] = {}
        self._used: dict[int, float] = {}
        self._of: Counter[Subject] = Counter()

    def learn(self, known: Iterable[tuple[int, Identity]], *, next_number: int, now: float) -> None:
        """What is stored already, replacing what was known; the later of two with one identity counts."""
        self._known.clear()
        self._used.clear()
        self._of.clear()
        self.next = next_number
        for number, identity in known:
            self._remember(identity, number, now)

    def rows(self, samples: Iterable[Sample], *, now: float) -> Numbered:
        answer = Numbered()
        series: list[Row] = []
        metrics: list[Row] = []
        for sample in samples:
            identity = (sample.subject, sample.metric, sample.labels)
            number = self._known.get(identity)
            reason = _unfit(sample, now)
            if number is None and not reason:
                reason = _unnamed(sample) or self._no_more(sample.subject)
            if reason:
                answer.left_out[reason] += 1
                continue
            if number is None:
                number = self.next
                self.next += 1
                self._remember(identity, number, now)
                series.append((number, *_columns(identity)))
            self._used[number] = now
            moment = datetime.fromtimestamp(sample.at, UTC).replace(tzinfo=None)
            metrics.append((moment, number, sample.step, float(sample.value)))
        if series:
            answer.rows[SERIES] = series
        if metrics:
            answer.rows[METRICS] = metrics
        return answer

    def release(self, numbers: Iterable[int], *, unused_since: float) -> list[int]:
        """Those of these numbers that had no sample since; they are not given to a sample any more."""
        free = {number for number in numbers if self._used.get(number, -math.inf) < unused_since}
        self._forget([identity for identity, number in self._known.items() if number in free])
        return sorted(free)

    def forget(self, *, unused_since: float) -> list[int]:
        """The numbers of those that have had no sample since, forgotten: a later sample gets a new number."""
        return self._forget([one for one, number in self._known.items() if self._used[number] < unused_since])

    def forget_subject(self, kind: str, name: str) -> list[int]:
        """The same, of all series of a resource."""
        return self._forget([one for one in self._known if (one[0].kind, one[0].name) == (kind, name)])

    def _forget(self, identities: Iterable[Identity]) -> list[int]:
        numbers = []
        for identity in identities:
            number = self._known.pop(identity)
            del self._used[number]
            self._of[identity[0]] -= 1
            if not self._of[identity[0]]:
                del self._of[identity[0]]
            numbers.append(number)
        return numbers

    def _remember(self, identity: Identity, number: int, now: float) -> None:
        if len(self._known) >= MOST_REMEMBERED:
            by_use = sorted(self._known, key=lambda one: self._used[self._known[one]])
            self._forget(by_use[: MOST_REMEMBERED // 10])
        if identity not in self._known:
            self._of[identity[0]] += 1
        else:
            del self._used[self._known[identity]]
        self._known[identity] = number
        self._used[number] = now

    def _no_more(self, subject: Subject) -> str:
        if self._of[subject] >= MOST_SERIES:
            whose = "/".join(filter(None, (subject.kind, subject.name, subject.part)))
            return f"{whose} has {MOST_SERIES} series of metrics already: is there a label whose value is always new?"
        return ""


def _unfit(sample: Sample, now: float) -> str:
    """Why a sample is not stored; empty where it is, if its series has a name that can be stored."""
    if not -MOST_VALUE <= sample.value <= MOST_VALUE:
        return "values of metrics were no numbers (NaN or infinite)"
    if not EARLIEST <= sample.at <= min(LATEST, now + AHEAD_S):
        return "times of metrics lay in the future, or before 1970"
    if sample.step is not None and not -_STEPS <= sample.step < _STEPS:
        return "steps of metrics were beyond 64 bits"
    return ""


def _unnamed(sample: Sample) -> str:
    texts = (sample.metric, *(text for label in sample.labels for text in label))
    if not sample.metric or len(sample.labels) > MOST_LABELS or any(len(text) > MOST_TEXT for text in texts):
        return f"metrics had no name, more than {MOST_LABELS} labels, or texts of more than {MOST_TEXT} characters"
    if any(not text.isprintable() for text in texts):
        return "names or labels of metrics held control characters"
    return ""


def _columns(identity: Identity) -> Row:
    subject, metric, labels = identity
    return subject.kind, subject.name, subject.part, subject.container, metric, dict(labels)
