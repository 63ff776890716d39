"""The appliance: one workstation as a private ML platform. `daemon.py` is the composition root."""

__version__ = "0.1.0"
