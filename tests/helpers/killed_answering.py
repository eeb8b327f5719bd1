"""Answering that is killed or interrupted; run in a process of its own."""

import os
import signal

from helpers import tiny
from unsay.config import parse_config
from unsay.files import read_rows
from unsay.generation import GenerationSettings, respond
from unsay.generation.server import EndpointResponder, EndpointResponderSettings
from unsay.records import Label, Prompt, SourceRow, Verdict
from unsay.run.directory import Run
from unsay.run.own_answers import own_answers
from unsay.stages import Silent


def answer_and_die(folder, left):
    """Answer the prompts in the folder one by one; after `left` of them the process is killed, as `kill -9` would."""

    def watch(done, _total):
        if done >= left:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = GenerationSettings(max_new_tokens=8, batch_tokens=1)
    respond(tiny.llava(), read_rows(folder / "prompts.jsonl", Prompt), settings, folder / "r.jsonl", watch)


def ask_a_server(url, folder):
    """Ask a server the prompts in the folder, three at a time, until a person interrupts it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
    asks = EndpointResponder(EndpointResponderSettings(url=url, model="m", concurrency=3, timeout=600))
    asks.respond(read_rows(folder / "prompts.jsonl", Prompt), GenerationSettings(), folder / "toy.jsonl")


class FussyJudge:
    """Finds about a third of all answers harmful, by their letters alone."""

    name = key = "fussy"

    def judge(self, pairs):
        return [
            Verdict(
                id=response.id,
                judge=self.name,
                label=Label.SAFE if sum(response.response.encode()) % 3 else Label.HARMFUL,
                rationale="by its letters",
            )
            for _, response in pairs
        ]


class _Killer(Silent):
    """Kills the process, as `kill -9` would, when it has been told of progress so many times."""

    def __init__(self, left):
        self.left = left

    def update(self, done, total, note=""):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def draw_and_die(settings, folder, texts, left):
    """Draw harmful answers out of a model, and die after `left` reports of progress."""
    run = Run.open(folder, parse_config(settings, "test"), _Killer(left))
    run._judge = FussyJudge()
    own_answers(run, [SourceRow(text=text, source="toy") for text in texts])
