"""The workshop around the four files of the chapter: what runs, measures and serves them."""
