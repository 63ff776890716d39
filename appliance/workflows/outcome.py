"""How a job's container ended, in words. Pure.

An image that lacks the very command that the job names, or holds it for another machine, lacks it at the next attempt
too: such an outcome is hopeless. What a script ends with is not, also where that is 126 or 127: the missing command may
be one that the script itself was to install.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, replace

from appliance.engine.types import Container

_KNOWN_CODES = {
    126: "exit code 126: the command was found but could not be executed",
    127: "exit code 127: command not found",
}
UNSTARTED_CODES = frozenset({126, 127})
"""What a shell ends with that finds no such command, and the container's init where the command itself is missing."""
LONGEST_MESSAGE = 600
_TOLD = "appliance: "
"""How the programs of `inside` begin their last line."""
_LACKING = re.compile(r"exec format error|executable file not found|\bexec: .*no such file or directory", re.IGNORECASE)
_INIT = re.compile(r"^\[FATAL tini \(\d+\)\] exec (?P<program>.+) failed: (?P<reason>.+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    phase: str
    message: str = ""
    hopeless: bool = False
    """Another attempt would end the same way."""
    counts: bool = True
    """False: it is no fault of the program's, and burns no attempt."""

    @property
    def succeeded(self) -> bool:
        return self.phase == "Succeeded"

    def not_tried_again(self) -> Outcome:
        """Of an attempt that is the last one, though there could be more."""
        return replace(self, message=f"not tried again: {self.message}")


def outcome_of(container: Container, last_line: str = "") -> Outcome:
    """Of a container that has ended and was not stopped by us.

    `last_line` of its log is needed for UNSTARTED_CODES, and where a program of ours says there how it ended.
    """
    code = container.exit_code
    told = last_line.strip().removeprefix(_TOLD)[:LONGEST_MESSAGE] if last_line.startswith(_TOLD) else ""
    if code in UNSTARTED_CODES and (refusal := _INIT.search(last_line)):
        program, reason = refusal["program"], refusal["reason"].strip()
        needed = " (script@v1 needs it)" if program == "bash" else ""
        return Outcome("Error", f"the image cannot run {program}: {reason}{needed}", hopeless=True)
    if container.oom_killed:
        return Outcome("Failed", "out of memory: the kernel killed it (exit code 137)")
    if container.error and code != 0:
        return unstartable(f"the engine could not run it: {container.error}")
    if code == 0:
        return Outcome("Succeeded", told)
    if code is None:
        return Outcome("Error", "the engine does not say how its container ended")
    return Outcome("Failed", told or _words(code))


def with_gpu(outcome: Outcome, fault: str, lost: str) -> Outcome:
    """Of a job whose GPU has told of a fault meanwhile. One that succeeded says so too: it may be wrong."""
    told = "; ".join(words for words in (fault, lost) if words)
    if not told or outcome.phase == "Canceled":
        return outcome
    said, mark, hint = outcome.message.partition(" (next: ")
    return replace(outcome, message=f"{said}{'; ' if said else ''}its GPU: {told}{mark}{hint}")


def unstartable(message: str) -> Outcome:
    """Of a container that the engine did not start, with its words."""
    return Outcome("Error", message, hopeless=_LACKING.search(message) is not None)


def _words(code: int) -> str:
    if code in _KNOWN_CODES:
        return _KNOWN_CODES[code]
    if 128 < code < 160:
        try:
            name = signal.Signals(code - 128).name
        except ValueError:
            return f"exit code {code}"
        return f"exit code {code}: killed by {name}"
    return f"exit code {code}"
