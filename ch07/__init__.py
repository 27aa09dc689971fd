"""The workshop around the four files of the chapter: everything that runs, measures or serves them."""
