"""Datasets and models: names for immutable versions, each a sealed volume of its own."""
