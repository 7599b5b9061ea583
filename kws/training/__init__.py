"""From a prepared store to a model folder."""
