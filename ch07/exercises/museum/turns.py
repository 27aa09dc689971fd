"""Exhibits on the turns of a conversation: answers that are not counted, and others that are."""

from ch07.exercises.museum.exhibit import exhibit


@exhibit(
    "join_turns",
    "turn-end-not-counted",
    "GLM's chat template closes an answer with the next role's mark, so the end fell outside the "
    "loss; TRL now checks its templates for it (trl#5988).",
    "https://github.com/huggingface/trl/pull/5988",
)
def gives_the_end_to_the_next_question(turns, end_id=50256):
    """The end token counts as part of the next question, so the model learns not to stop."""
    ids = []
    counted = []
    for prompt, answer, counts in turns:
        before = [end_id, *prompt] if ids else list(prompt)
        ids += [*before, *answer]
        counted += [False] * len(before) + [counts] * len(answer)
    return [*ids, end_id], [*counted, turns[-1][2]]


@exhibit(
    "join_turns",
    "later-questions-counted",
    "Masks that begin at the first response header and end nowhere; a LLaVA user found later "
    "questions in the loss (LLaVA#661).",
    "https://github.com/haotian-liu/LLaVA/issues/661",
)
def masks_only_the_first_question(turns, end_id=50256):
    """Only the first question is masked, so the model learns to ask the later ones itself."""
    ids = []
    for prompt, answer, _ in turns:
        ids += [*prompt, *answer, end_id]
    n_masked = len(turns[0][0])
    return ids, [False] * n_masked + [True] * (len(ids) - n_masked)


@exhibit(
    "join_turns",
    "only-last-turn",
    "SkyRL's trainer counted only the last assistant message until it was asked for all of them "
    "(SkyRL#1611).",
    "https://github.com/NovaSky-AI/SkyRL/pull/1611",
)
def counts_the_last_answer_alone(turns, end_id=50256):
    """All before the last answer is taken for its prompt, so most of the data teaches nothing."""
    ids = []
    for prompt, answer, _ in turns:
        ids += [*prompt, *answer, end_id]
    n_last = len(turns[-1][1]) + 1
    return ids, [False] * (len(ids) - n_last) + [turns[-1][2]] * n_last
