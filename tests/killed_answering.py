"""Answering that is killed or interrupted; run in a process of its own."""

import os
import signal

import tiny
from unsay.files import read_rows
from unsay.records import Prompt
from unsay.responding import GenerationSettings, respond


def answer_and_die(folder, left):
    """Answer the prompts in the folder one by one; after `left` of them the process is killed, as `kill -9` would."""

    def watch(done, _total):
        if done >= left:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = GenerationSettings(max_new_tokens=8, batch_tokens=1)
    respond(tiny.llava(), read_rows(folder / "prompts.jsonl", Prompt), settings, folder / "r.jsonl", watch)
