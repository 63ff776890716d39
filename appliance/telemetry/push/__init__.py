"""Metrics that programs push: what they send, read as samples. Pure."""
