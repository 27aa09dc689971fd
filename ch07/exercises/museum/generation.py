"""Exhibits on generation that starts, stops or looks in the wrong place."""

import torch

from ch07.exercises.museum.exhibit import exhibit


@exhibit(
    "generate",
    "returns-prompt",
    "transformers returns the prompt too; a user found that cutting it "
    "off by string length doesn't work (transformers#17117).",
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
        limit = min(max_new_tokens, model.config.context_length - len(prompt))
        for _ in range(limit):
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
    """The end token is never checked for, so every answer runs to the limit."""
    was_training = model.training
    model.eval()
    answers = []
    for prompt in prompts:
        ids = list(prompt)
        limit = min(max_new_tokens, model.config.context_length - len(prompt))
        for _ in range(limit):
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
    """The end is returned as part of the answer, so 50256 ends up in texts and scores."""
    was_training = model.training
    model.eval()
    answers = []
    for prompt in prompts:
        new_ids = []
        limit = min(max_new_tokens, model.config.context_length - len(prompt))
        while len(new_ids) < limit:
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
    """The limit is exceeded by one: answers are a token too long and overflow a full context."""
    was_training = model.training
    model.eval()
    answers = []
    for prompt in prompts:
        new_ids = []
        limit = min(max_new_tokens, model.config.context_length - len(prompt))
        while len(new_ids) <= limit:
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
    context = model.config.context_length
    longest = max(map(len, prompts))
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
        limit = min(max_new_tokens, model.config.context_length - len(prompt))
        while len(new_ids) < limit:
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
    """A short prompt's next token is read after its padding, so the model continues the padding."""
    was_training = model.training
    model.eval()
    context = model.config.context_length
    longest = max(map(len, prompts))
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
    "Ollama silently drops the beginning of a prompt that is too long, as a user found out "
    "(ollama#3839).",
    "https://github.com/ollama/ollama/issues/3839",
)
@torch.no_grad()
def drops_the_front(model, prompts, max_new_tokens, end_id=50256):
    """When the context is full, the prompt's beginning is dropped, and with it the question."""
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
