"""The jobs of a workflow as a graph of `needs`. Pure; iterative, because a chain may be longer than the stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Needs = Mapping[str, Sequence[str]]
"""Job -> the jobs it names. A name that is no job is passed over."""


MOST_CYCLES = 20


def cycles(needs: Needs) -> list[list[str]]:
    """Up to `MOST_CYCLES` circles, each as the jobs along it: one waits for the next, the last for the first.

    Empty where there is none. Breaking these may uncover others.
    """
    found: list[list[str]] = []
    done: set[str] = set()
    for start in needs:
        if start in done:
            continue
        path: dict[str, None] = {start: None}
        pending = [(start, iter(needs[start]))]
        while pending:
            job, rest = pending[-1]
            following = next(rest, None)
            if following is None:
                pending.pop()
                del path[job]
                done.add(job)
            elif following in path:
                jobs = list(path)
                found.append(jobs[jobs.index(following) :])
                if len(found) == MOST_CYCLES:
                    return found
            elif following in needs and following not in done:
                path[following] = None
                pending.append((following, iter(needs[following])))
    return found


def is_ancestor(needs: Needs, job: str, other: str) -> bool:
    """Whether `job` waits for `other`, directly or through jobs between them."""
    seen: set[str] = set()
    pending = list(needs.get(job, ()))
    while pending:
        name = pending.pop()
        if name == other:
            return True
        if name not in seen:
            seen.add(name)
            pending.extend(needs.get(name, ()))
    return False
