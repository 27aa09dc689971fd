"""Side-by-side measurements: one command each, a table at the end, JSON on request."""
