"""Preference tuning: pairs of answers, and direct preference optimization (DPO)."""
