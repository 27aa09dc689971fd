"""Whatever writes text: decoding with our model, a run folder, or a server."""
