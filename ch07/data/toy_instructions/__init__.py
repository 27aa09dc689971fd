"""A small world of words and tasks, whose right answers are computed."""
