"""Exercise 15: which tokens of a conversation the loss counts (not in chapter 7)."""


def join_turns(turns, end_id=50256):
    """The ids of a conversation and, for each, whether the loss counts it: two lists of one length.

    Each turn is (prompt_ids, answer_ids, counts). The ids are those of all turns in order: prompt,
    answer, and then `end_id`, after each answer, the last one included. Counted are the ids of the
    answers and the `end_id` after each, unless the turn's `counts` is False; then that turn is only
    read. A prompt is never counted, wherever it stands and whatever ids it holds.
    Example:
      [([1, 2], [3], True), ([4], [5, 6], True)] with end_id 0  ->
      [1, 2, 3, 0, 4, 5, 6, 0] and
      [False, False, True, True, False, True, True, True]
    """
    raise NotImplementedError
