"""Rows that a model writes: Self-Instruct, Magpie, Reflection-Tuning."""
