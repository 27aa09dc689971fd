"""A stop string cuts a streamed text where it cuts the whole text, and never shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ch07.generation.completion import finished_completion
from ch07.generation.stop_strings import StopFilter

texts = st.text("ab.", max_size=12)


def streamed(pieces, stop):
    """(the pieces that got through, the stop string), as a stream of an answer does it."""
    passed = []
    stop_filter = StopFilter(stop, passed.append)
    for piece in pieces:
        stop_filter.add(piece)
        if stop_filter.found is not None:
            break
    stop_filter.end()
    return passed, stop_filter.found


@given(pieces=st.lists(texts, max_size=6), stop=st.text("ab.", min_size=1, max_size=4))
def test_the_stream_is_the_whole_text_up_to_the_stop_string(pieces, stop):
    passed, found = streamed(pieces, [stop])
    whole = finished_completion("".join(pieces), "length", [stop])
    assert "".join(passed) == whole.text
    assert (found == stop) == (whole.finish_reason == "stop")


@given(
    pieces=st.lists(texts, max_size=6),
    stop=st.lists(st.text("ab.", min_size=1, max_size=4), max_size=4),
)
def test_no_piece_holds_what_a_later_one_would_complete(pieces, stop):
    passed, _ = streamed(pieces, stop)
    assert not any(one in "".join(passed) for one in stop)
    assert "".join(pieces).startswith("".join(passed))
    assert all(passed)


@given(letters=texts, stop=st.lists(st.text("ab.", min_size=1, max_size=4), max_size=4))
def test_letter_by_letter_as_by_tokens_a_backend_stops_at_the_same_place(letters, stop):
    """A backend looks after each token whether the text so far has a stop string."""
    passed, found = streamed(letters, stop)
    for n in range(len(letters) + 1):
        so_far = finished_completion(letters[:n], "length", stop)
        if so_far.finish_reason == "stop":
            break
    assert "".join(passed) == so_far.text
    assert (found is not None) == (so_far.finish_reason == "stop")


@pytest.mark.parametrize("stop", [[], ["xyz"]])
def test_without_a_stop_string_everything_comes_at_once(stop):
    assert streamed(["ab", "c"], stop) == (["ab", "c"], None)
