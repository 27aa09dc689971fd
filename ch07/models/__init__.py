"""Weights in and out: from the hub, a file or a run; LoRA, prefix tuning, export."""
