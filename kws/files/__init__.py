"""Writing whole or not at all, and alone."""
