"""Answering that is killed or interrupted; run in a process of its own."""

import os
import signal

from helpers import tiny
from unsay.files import read_rows
from unsay.generation import GenerationSettings, respond
from unsay.generation.server import EndpointResponder, EndpointResponderSettings
from unsay.records import Prompt


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
