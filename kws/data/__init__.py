"""Recordings: from folders on disk to a checked, prepared store of clips."""
