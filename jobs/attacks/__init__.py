"""Attacks on a release: who sees what, what they make of it, and what the promise allows."""
