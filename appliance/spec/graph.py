"""The jobs of a workflow as a graph of `needs`. Pure; iterative, because a chain may be longer than the stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Needs = Mapping[str, Sequence[str]]
"""Job -> the jobs it names. A name that is no job is passed over."""
MOST_CIRCLES = 20


def in_order(needs: Needs) -> tuple[list[str], list[list[str]]]:
    """The jobs, each after what it needs, and up to `MOST_CIRCLES` circles, which make the order incomplete.

    In a circle each job waits for the next, and the last for the first. Breaking those found may uncover others.
    """
    order: dict[str, None] = {}
    circles: list[list[str]] = []
    for start in needs:
        if start in order:
            continue
        path: dict[str, None] = {start: None}
        pending = [(start, iter(needs[start]))]
        while pending:
            job, rest = pending[-1]
            following = next(rest, None)
            if following is None:
                pending.pop()
                del path[job]
                order[job] = None
            elif following in path:
                jobs = list(path)
                circles.append(jobs[jobs.index(following) :])
                if len(circles) == MOST_CIRCLES:
                    return list(order), circles
            elif following in needs and following not in order:
                path[following] = None
                pending.append((following, iter(needs[following])))
    return list(order), circles


class Ancestry:
    """Who waits for whom, also through jobs between them. One bit per job: a long chain has very many ancestors."""

    def __init__(self, needs: Needs, order: Sequence[str]) -> None:
        """`order` as `in_order` has it where there is no circle."""
        self._bits = {job: 1 << index for index, job in enumerate(order)}
        self._above: dict[str, int] = {}
        for job in order:
            above = 0
            for needed in needs[job]:
                above |= self._bits.get(needed, 0) | self._above.get(needed, 0)
            self._above[job] = above

    def waits_for(self, job: str, other: str) -> bool:
        return bool(self._above.get(job, 0) & self._bits.get(other, 0))
