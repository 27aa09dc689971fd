"""What the checker tries on a learner's code, one file per topic."""
