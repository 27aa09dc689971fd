"""The systems around the chapter: each a small module, equal to its original."""
