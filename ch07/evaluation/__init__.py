"""How good answers are: metrics, held-out answers, a language model as judge."""
