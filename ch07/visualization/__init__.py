"""Figures with captions: a batch token by token, losses, attention."""
