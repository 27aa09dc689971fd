"""Exercise 17: rotary positions, which tell attention how far apart two tokens are."""

import torch


def rotate(x, positions, theta):
    """Rotate each pair of numbers of queries or keys by an angle that grows with the position.

    x is (B, heads, T, D), and the result is like x. A head has D / 2 pairs: pair i, counted from 0,
    is numbers i and i + D / 2. At position p it is rotated by p * theta^(-2i / D) radians: numbers
    (a, b) become (a cos - b sin, b cos + a sin). `positions` is (B, T), int64: the place of each
    token in its own row. It is not always the column, since a row may be padded on the left, and
    earlier tokens may be in a cache. Where x is float16, angles are computed in float32 all the
    same. (Su et al. 2021, "RoFormer", section 3.4, where neighbours are paired.)
    Example, with D = 4, theta = 100 and position 1, hence angles 1 and 0.1:
      [1, 2, 0, 0]  ->  [0.540, 1.990, 0.841, 0.200]
    """
    raise NotImplementedError
