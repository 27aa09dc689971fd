"""Preference pairs and DPO."""
