"""Secrets and registry credentials, sealed at rest."""
