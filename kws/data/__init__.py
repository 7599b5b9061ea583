"""Recordings: from folders to a checked, prepared store, and sampling from it."""
