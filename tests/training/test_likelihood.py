"""How likely given answers are, against the plain computation."""

import pytest
import torch

from helpers import tiny
from unsay.records import Kind, Modality, Prompt
from unsay.training.likelihood import answer_losses


def test_each_prompt_gets_its_own_loss_and_the_answers_end_counts(tiny_vlm):
    """The longest prompt first: batches go by length, and the losses come in the order of the prompts."""
    rows = sorted(tiny.examples(2), key=lambda row: -len(row.prompt + row.answer))
    prompts = [
        Prompt(id=row.id, suite="toy", kind=Kind.UTILITY, modality=Modality.TEXT, prompt=row.prompt, request=row.prompt,
               group=row.id, reference=row.answer)
        for row in rows
    ]  # fmt: skip
    wanted, tokens = [], 0
    for row in prompts:
        asked, said = tiny_vlm.encode_prompt(row.prompt), tiny_vlm.encode_answer(row.reference)
        assert said[-1] in tiny_vlm.end_tokens
        ids = torch.tensor([[*asked, *said]])
        with torch.no_grad():
            logits = tiny_vlm.model(input_ids=ids).logits[0, len(asked) - 1 : -1].log_softmax(dim=-1)
        wanted.append(-float(logits[range(len(said)), said].mean()))
        tokens += ids.numel()
    assert answer_losses(tiny_vlm, prompts) == (pytest.approx(wanted, rel=1e-4), tokens)
    assert len({round(loss, 3) for loss in wanted}) == len(wanted), "or a wrong order would pass"
