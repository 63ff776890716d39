"""Notebooks executed from their first cell to their last with nobody watching, for workflows and for notebooks."""
