"""Sources of recordings: download, synthetic voices, generated sounds."""
