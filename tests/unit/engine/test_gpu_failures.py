"""The words of engines and of NVIDIA's toolkit, as people have reported them or as engines said them here."""

from __future__ import annotations

import pytest

from appliance.engine.gpu_failures import trouble

RUNC = "failed to create task for container: OCI runtime create failed: runc create failed: error running hook #0: "
HOOK = RUNC + "exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: "


@pytest.mark.parametrize(
    ("message", "next_step"),
    [
        ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-z", "nvidia-ctk cdi generate"),
        ('could not select device driver "cdi" with capabilities: []', "daemon.json"),
        ('could not select device driver "nvidia" with capabilities: [[gpu compute utility]]', "container toolkit"),
        (HOOK + "device error: GPU-aaaa: unknown device: unknown", "nvidia-smi -L"),
        (HOOK + "initialization error: nvml error: driver/library version mismatch", "reboot"),
        (HOOK + "initialization error: driver not loaded: unknown", "load the driver"),
        (HOOK + "initialization error: load library failed: libnvidia-ml.so.1: cannot open", "repair the driver"),
        (
            RUNC + "exit status 1, stderr: invoking the NVIDIA Container Runtime Hook directly (e.g. specifying the "
            "docker --gpus flag) is not supported. Please use the NVIDIA Container Runtime instead.",
            "nvidia-ctk cdi generate",
        ),
        (HOOK + "something new", "toolkit failed"),
        (RUNC + "fork/exec /usr/bin/nvidia-ctk: no such file or directory", "toolkit failed"),
    ],
)
def test_the_machines_trouble_passes(message: str, next_step: str) -> None:
    found = trouble(message)
    assert found
    assert found.passes
    assert next_step in found.next_step


@pytest.mark.parametrize(
    ("message", "next_step"),
    [
        (HOOK + "requirement error: unsatisfied condition: cuda>=12.8, please update your driver", "older CUDA"),
        (HOOK + "mount error: file creation failed: /merged/usr/lib/libnvidia-ml.so.1: file exists", "remove libcuda"),
        (HOOK + "ldcache error: process /sbin/ldconfig failed with error code: 1", "ldconfig"),
    ],
)
def test_the_images_trouble_stays(message: str, next_step: str) -> None:
    found = trouble(message)
    assert found
    assert not found.passes
    assert next_step in found.next_step


@pytest.mark.parametrize(
    "message",
    [
        'exec: "nvidia-smi": executable file not found in $PATH: unknown',
        'exec: "nvidia-ctk": executable file not found in $PATH: unknown',
        "no space left on device",
        "pull access denied for nvidia/cuda",
        "",
    ],
)
def test_other_words_are_none_of_it(message: str) -> None:
    assert trouble(message) is None
