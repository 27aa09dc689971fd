"""How many new instructions a second can be held against a pool of 50,000, exactly.

    python -m benchmarks.novelty [--rows N] [--json FILE]

The peer is Alpaca's way, rouge-score's `_score_lcs` for every text of the pool, in one process and
timed on a few candidates. The texts are made up: "varied" ones of words as frequent as in English
(Zipf), "alike" ones that differ from each other by two words of twelve, where the bound helps least.
"""
