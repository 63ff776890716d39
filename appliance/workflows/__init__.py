"""Workflow runs: jobs as containers, in the order of their needs, with inputs and outputs as files."""
