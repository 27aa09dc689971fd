"""Synthetic data written by a model: Self-Instruct, Magpie, Reflection-Tuning."""
