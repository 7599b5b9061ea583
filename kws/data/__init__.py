"""Recordings: from folders on disk to a checked, prepared store, and what is drawn from it."""
