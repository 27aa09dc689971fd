"""Files -> checked entries -> datasets -> batches, and the data that comes with the project."""
