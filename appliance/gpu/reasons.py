"""Why a card runs slower than it could, from NVML's bits of clock event reasons. Pure."""

from __future__ import annotations

POWER_CAP = 0x4
HARDWARE_SLOWDOWN = 0x8
THERMAL_SOFTWARE = 0x20
THERMAL_HARDWARE = 0x40
POWER_BRAKE = 0x80
WORDS = {
    THERMAL_HARDWARE: "too hot: the hardware slows it down",
    THERMAL_SOFTWARE: "too hot: the driver slows it down",
    POWER_BRAKE: "power brake: the power supply or the server asks for less",
    HARDWARE_SLOWDOWN: "the hardware slows it down, for heat or power",
    POWER_CAP: "at its power limit",
}


def throttled(reasons: int | None) -> tuple[str, ...]:
    """In words, the gravest first; none where it runs freely, rests, or does not tell."""
    found = reasons or 0
    if found & (THERMAL_HARDWARE | POWER_BRAKE):
        found &= ~HARDWARE_SLOWDOWN  # which is only the sum of those two
    return tuple(words for bit, words in WORDS.items() if found & bit)


def kind(reasons: int | None) -> str:
    """`thermal`, `power`, `thermal+power`, or empty; `hardware` where the card does not say which."""
    found = reasons or 0
    thermal = "thermal" if found & (THERMAL_SOFTWARE | THERMAL_HARDWARE) else ""
    power = "power" if found & (POWER_CAP | POWER_BRAKE) else ""
    return "+".join(filter(None, (thermal, power))) or ("hardware" if found & HARDWARE_SLOWDOWN else "")
