"""A model behind HTTP: many clients share its batches, a chat page and an API come from it."""
