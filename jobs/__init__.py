"""Footfall's steps: each reads, applies pure transforms, and writes."""
