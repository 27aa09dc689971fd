"""The room of answers: generation that stops, starts or looks in the wrong place."""

import torch

from ch07.exercises.museum.exhibit import exhibit


@exhibit(
    "generate",
    "returns-prompt",
    "transformers returns the prompt too; a user who cut it off by string length found that "
    "this doesn't work (transformers#17117).",
    "https://github.com/huggingface/transformers/issues/17117",
)
@torch.no_grad()
def repeats_the_prompt(model, prompts, max_new_tokens, end_id=50256):
    """The prompt is returned with the answer, so every answer repeats the question."""
    was_training = model.training
    model.eval()
    answers = []
    for prompt in prompts:
        ids = list(prompt)
        room = min(max_new_tokens, model.config.context_length - len(prompt))
        for _ in range(room):
            next_id = int(model(torch.tensor([ids]))[0, -1].argmax())
            if next_id == end_id:
                break
            ids.append(next_id)
        answers.append(ids)
    model.train(was_training)
    return answers


@exhibit(
    "generate",
    "never-stops",
    "litgpt's fine-tuning scripts never passed the end-token id to generate, so sampling "
    "always ran to the limit (litgpt#812).",
    "https://github.com/Lightning-AI/litgpt/pull/812",
)
@torch.no_grad()
def ignores_the_end(model, prompts, max_new_tokens, end_id=50256):
    """Nobody looks for the end, so the model chatters on until the limit."""
    was_training = model.training
    model.eval()
    answers = []
    for prompt in prompts:
        ids = list(prompt)
        room = min(max_new_tokens, model.config.context_length - len(prompt))
        for _ in range(room):
            logits = model(torch.tensor([ids]))
            ids.append(int(logits[0, -1].argmax()))
        answers.append(ids[len(prompt) :])
    model.train(was_training)
    return answers


@exhibit(
    "generate",
    "keeps-end",
    "transformers' parse_response left the end token inside the answer text, so it came up "
    "again in the next turn (transformers#42249).",
    "https://github.com/huggingface/transformers/issues/42249",
)
@torch.no_grad()
def returns_the_end(model, prompts, max_new_tokens, end_id=50256):
    """The end is returned as part of the answer, so 50256 gets into texts and scores."""
    was_training = model.training
    model.eval()
    answers = []
    for prompt in prompts:
        new_ids = []
        room = min(max_new_tokens, model.config.context_length - len(prompt))
        while len(new_ids) < room:
            logits = model(torch.tensor([[*prompt, *new_ids]]))
            new_ids.append(int(logits[0, -1].argmax()))
            if new_ids[-1] == end_id:
                break
        answers.append(new_ids)
    model.train(was_training)
    return answers


@exhibit(
    "generate",
    "one-token-too-many",
    "A user showed that transformers' prompt-lookup decoding gave distilgpt2 one token more "
    "than max_new_tokens allows (transformers#47195).",
    "https://github.com/huggingface/transformers/pull/47195",
)
@torch.no_grad()
def takes_one_token_more(model, prompts, max_new_tokens, end_id=50256):
    """The limit is passed by one, so answers are a token too long and overflow a full context."""
    was_training = model.training
    model.eval()
    answers = []
    for prompt in prompts:
        new_ids = []
        room = min(max_new_tokens, model.config.context_length - len(prompt))
        while len(new_ids) <= room:
            logits = model(torch.tensor([[*prompt, *new_ids]]))
            next_id = int(logits[0, -1].argmax())
            if next_id == end_id:
                break
            new_ids.append(next_id)
        answers.append(new_ids)
    model.train(was_training)
    return answers


@exhibit(
    "generate",
    "left-padding-no-positions",
    "nnsight left-padded batches without position ids, so GPT-2 silently mispredicted every "
    "prompt shorter than the longest (nnsight#673).",
    "https://github.com/ndif-team/nnsight/pull/673",
)
@torch.no_grad()
def reads_left_padding_as_text(model, prompts, max_new_tokens, end_id=50256):
    """A short prompt is read with padding before it, so its answer depends on its neighbours."""
    was_training = model.training
    model.eval()
    context, longest = model.config.context_length, max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    for _ in range(max_new_tokens):
        logits = model(ids[:, -context:])
        ids = torch.cat([ids, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    model.train(was_training)
    answers = []
    for prompt, row in zip(prompts, ids[:, longest:].tolist(), strict=True):
        row = [*row[: context - len(prompt)], end_id]
        answers.append(row[: row.index(end_id)])
    return answers


@exhibit(
    "generate",
    "first-position-logits",
    "vLLM's TPU runner picked the next token from index 0 of all logits, until a fix "
    "(tpu-inference#125).",
    "https://github.com/vllm-project/tpu-inference/pull/125",
)
@torch.no_grad()
def reads_the_first_position(model, prompts, max_new_tokens, end_id=50256):
    """The scores after the first token are read, so the prompt's other tokens don't matter."""
    was_training = model.training
    model.eval()
    answers = []
    for prompt in prompts:
        new_ids = []
        room = min(max_new_tokens, model.config.context_length - len(prompt))
        while len(new_ids) < room:
            logits = model(torch.tensor([[*prompt, *new_ids]]))[:, 0]
            next_id = int(logits.argmax(dim=-1))
            if next_id == end_id:
                break
            new_ids.append(next_id)
        answers.append(new_ids)
    model.train(was_training)
    return answers


@exhibit(
    "generate",
    "right-padding-generation",
    "KServe padded prompts on the right when generating; a user reported transformers' warning "
    "about it (kserve#3537).",
    "https://github.com/kserve/kserve/issues/3537",
)
@torch.no_grad()
def goes_on_after_the_padding(model, prompts, max_new_tokens, end_id=50256):
    """A short prompt's next token is read behind its padding, so it goes on from nothing."""
    was_training = model.training
    model.eval()
    context, longest = model.config.context_length, max(map(len, prompts))
    ids = torch.tensor([list(prompt) + [0] * (longest - len(prompt)) for prompt in prompts])
    for _ in range(min(max_new_tokens, context - longest)):
        logits = model(ids)
        ids = torch.cat([ids, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    model.train(was_training)
    answers = []
    for row in ids[:, longest:].tolist():
        row = [*row, end_id]
        answers.append(row[: row.index(end_id)])
    return answers


@exhibit(
    "generate",
    "prompt-front-dropped",
    "Ollama cuts a prompt that is too long at its front, and a user had to find that out "
    "(ollama#3839).",
    "https://github.com/ollama/ollama/issues/3839",
)
@torch.no_grad()
def drops_the_front(model, prompts, max_new_tokens, end_id=50256):
    """Where the context is full, the prompt's front is dropped: the model forgets the question."""
    was_training = model.training
    model.eval()
    answers = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(max_new_tokens):
            window = torch.tensor([ids[-model.config.context_length :]])
            next_id = int(model(window)[0, -1].argmax())
            if next_id == end_id:
                break
            ids.append(next_id)
        answers.append(ids[len(prompt) :])
    model.train(was_training)
    return answers
