"""At the width of each published size, GPTModel computes what GPT2LMHeadModel computes."""

import pytest
from sizes import differences, make_pair

FEW = {
    "gpt2-small": {"n_layers": 2},
    "gpt2-medium": {"n_layers": 2, "vocab_size": 2003},
    "gpt2-large": {"n_layers": 1, "vocab_size": 2003},
    "gpt2-xl": {"n_layers": 1, "vocab_size": 2003},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FEW)
def test_equal_at_full_width(name):
    found = differences(*make_pair(name, **FEW[name]))
    assert found.pop("greedy") == 50
    assert len(found) == 5 and all(value < 1e-4 for value in found.values()), found  # NaN isn't
