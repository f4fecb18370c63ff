"""Footfall's method: pure functions from DataFrame to DataFrame and from Column to Column."""

__version__ = "0.1.0"
