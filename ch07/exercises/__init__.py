"""Exercises: stubs to fill in, a checker that names the mistake, a museum of bugs."""
