"""Text generation: decoding with our model, a run folder, or a server."""
