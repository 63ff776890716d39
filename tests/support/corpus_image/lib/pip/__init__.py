"""Stands in for pip, which needs an index: checks that a requirements file is there and says what was asked."""
