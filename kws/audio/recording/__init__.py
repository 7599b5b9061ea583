"""Record words for training: takes in sound, whether they are good, where they go."""
