"""From bytes to a waveform: the only decoder in the tree."""
