"""Deployments: replicas behind the front door, updated without dropping a request."""
