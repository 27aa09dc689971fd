"""A run on disk: config, metrics, checkpoints, and the lock on its folder."""
