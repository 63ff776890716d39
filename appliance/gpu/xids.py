"""What an Xid means: NVIDIA's numbers of errors, each with who is concerned by it. Pure.

After NVIDIA's Xid catalog of 2026, and what its Kubernetes plugin leaves to the application. `run`: the program failed,
the card is as good as before. `card`: nobody is to be given it before it was reset or seen to. `note`: told, no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from appliance.gpu.types import FaultKind

RESET = (
    "with nothing on it and the daemon stopped (`appliance stop`), for that asks it too, reset it"
    " (`nvidia-smi --gpu-reset`), then give it out again (`appliance gpu resume`)"
)
REBOOT = "restart the machine, then give it out again (`appliance gpu resume`)"
SERVICE = "it needs service: run NVIDIA's field diagnostics and ask whoever sold it"
PROGRAM = "the program is the first place to look"


class Verdict(NamedTuple):
    kind: FaultKind
    words: str


class Known(NamedTuple):
    kind: FaultKind
    what: str
    step: str


TABLE = {
    8: Known("run", "the program kept the GPU busy for too long", PROGRAM),
    11: Known("run", "a broken command stream", PROGRAM),
    13: Known("run", "a graphics engine exception, such as an access out of bounds", PROGRAM),
    25: Known("run", "an illegal display or memory operation", PROGRAM),
    31: Known("run", "a memory page fault: an illegal address", PROGRAM),
    32: Known("run", "a broken push buffer", PROGRAM),
    39: Known("run", "a copy engine failed", PROGRAM),
    40: Known("run", "a copy engine failed", PROGRAM),
    41: Known("run", "a copy engine failed", PROGRAM),
    43: Known("run", "the program's channel was stopped after an error of its own", PROGRAM),
    45: Known("run", "the program's channels were removed after an earlier error", "look at the error before it"),
    46: Known("card", "the GPU has stopped to work", RESET),
    48: Known("card", "an uncorrectable double bit error in its memory", RESET),
    54: Known("card", "its auxiliary power is not connected", "connect its power cables, and restart the machine"),
    62: Known("card", "its own controller has halted", RESET),
    63: Known("note", "a row of its memory was replaced, or a page retired", "reset it when convenient"),
    64: Known("card", "a row of its memory could not be replaced", RESET),
    68: Known("run", "a video engine exception", PROGRAM),
    69: Known("run", "a graphics engine class error", PROGRAM),
    74: Known("card", "an error of NVLink", f"see to the bridge or the cables; {RESET}"),
    79: Known("card", "it has fallen off the bus", f"check heat, power and seat; {REBOOT}"),
    92: Known("note", "many single bit errors, all corrected", "watch whether they go on"),
    94: Known(
        "run",
        "an uncorrectable memory error that hit this program only",
        "run it again; reset the card when convenient",
    ),
    95: Known("card", "an uncorrectable memory error that was not contained", RESET),
    109: Known("run", "a context switch took too long", PROGRAM),
    110: Known("card", "a security fault of its firmware", RESET),
    119: Known("card", "its system processor (GSP) does not answer", RESET),
    120: Known("card", "its system processor (GSP) has failed", RESET),
    136: Known("card", "its link could not be trained", RESET),
    137: Known("run", "a fault over NVLink, of this program or of one on another card", PROGRAM),
    140: Known("card", "an uncorrectable error that was not contained", RESET),
    141: Known("run", "a fault of its driver channel", PROGRAM),
    142: Known("card", "it has reported an error that only NVIDIA explains", SERVICE),
    143: Known("card", "its initialisation failed", RESET),
    151: Known("card", "a key was not rotated in time", REBOOT),
    154: Known("note", "what has to be done for it has changed", "the driver says what, beside this"),
    156: Known("card", "a part of it was retired", RESET),
    158: Known("card", "a fatal timeout", RESET),
    167: Known("card", "a fatal error of its PCIe link", REBOOT),
    169: Known("card", "a fatal error of its firmware", RESET),
    171: Known("card", "an uncorrectable error of its memory", RESET),
    172: Known("card", "an uncorrectable error of its caches", RESET),
}
APPLICATION = frozenset(
    {*range(70, 73), 60, *range(75, 78), 80, *range(82, 87), 88, 89, *range(96, 106), *range(126, 136), 139}
)
"""Also of the program, by the catalog; nothing more is to be said of them than their number."""
CLEANUP, TIMEOUT = 45, 109
BESIDE_S = 5.0
"""A removal of channels follows its cause within this; alone, it is what every killed program leaves."""
AGAIN_S = 600.0
"""A context switch that hangs twice within this is of the card, as the newer catalog has it."""


class Xid(NamedTuple):
    """One that was seen: unix seconds, and its number."""

    at: float
    number: int


def verdict(number: int, now: float, before: Sequence[Xid]) -> Verdict:
    """Of an Xid, and those of the same card before it."""
    known = TABLE.get(number) or (
        Known("run", "a failure of the program, by NVIDIA's catalog", PROGRAM)
        if number in APPLICATION
        else Known("note", "an error that is not known here", "look it up in NVIDIA's Xid catalog")
    )
    kind, what, step = known
    if number == CLEANUP and not any(one.number != CLEANUP and now - one.at <= BESIDE_S for one in before):
        kind, what, step = "note", "a program on it was ended from outside", "nothing needs to be done"
    if number == TIMEOUT and any(one.number == TIMEOUT and now - one.at <= AGAIN_S for one in before):
        kind, what, step = "card", "a context switch took too long, for the second time in ten minutes", RESET
    return Verdict(kind, f"Xid {number}: {what}; {step}")
