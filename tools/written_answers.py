"""Makes the packaged answers to the written prompts that have none yet; the others stay as they are.

    python -m tools.written_answers

The pocket VLM answers each prompt in words alone, greedily, up to 24 tokens. Prompts that it refuses or babbles at get
no answer, so that `shipped.answered` leaves them out.
"""

import gzip
import json
import tempfile
from pathlib import Path

from unsay.data.sources import shipped
from unsay.files import atomic_path
from unsay.generation import GenerationSettings, respond
from unsay.judges import build_judge, judge_all
from unsay.models import VLM, load
from unsay.models.precision import ModelSettings
from unsay.records import Kind, Label, SourceRow
from unsay.run.own_answers import request_prompts

TOKENS = 24
"""Longest answer."""

ANSWERS = shipped.PACKAGED / "answers.jsonl.gz"


def missing() -> list[SourceRow]:
    """Written prompts without an answer, those included that the model refuses or babbles at."""
    rows = [*shipped.contrast(), *shipped.plain()]
    answered = {row.text for row in shipped.answered(rows)}
    return [row for row in rows if row.text not in answered]


def answers(vlm: VLM, rows: list[SourceRow]) -> list[dict[str, object]]:
    """Key, answer and completeness of every row that the model neither refuses nor babbles at."""
    prompts = request_prompts(rows, "written", Kind.BENIGN)
    with tempfile.TemporaryDirectory() as scratch:
        responses = respond(vlm, prompts, GenerationSettings(max_new_tokens=TOKENS), Path(scratch) / "written.jsonl")
    verdicts = judge_all(build_judge("rules"), list(zip(prompts, responses, strict=True)))
    return [
        {"key": prompt.id, "answer": response.response, "complete": response.finish_reason == "stop"}
        for prompt, response, verdict in zip(prompts, responses, verdicts, strict=True)
        if verdict.label not in (Label.REFUSED, Label.DEGENERATE)
    ]


def main() -> None:
    """Answer what has no answer yet, and write the packaged file anew."""
    rows = missing()
    known = gzip.decompress(ANSWERS.read_bytes()).decode().splitlines()
    new = answers(load("pocket", settings=ModelSettings(dtype="fastest")), rows)
    lines = [*known, *(json.dumps(row, ensure_ascii=False) for row in new)]
    # Without a time stamp, equal answers make equal files.
    with atomic_path(ANSWERS) as path:
        path.write_bytes(gzip.compress("".join(line + "\n" for line in lines).encode(), mtime=0))
    print(f"{len(new)} of {len(rows)} prompts were answered; {len(lines)} answers in all")


if __name__ == "__main__":
    main()
