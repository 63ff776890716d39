"""A keyed work queue that brings what runs to what is declared. Knows no kind."""

from appliance.reconcile.loop import Again, Controller, Key, Reconciler

__all__ = ["Again", "Controller", "Key", "Reconciler"]
