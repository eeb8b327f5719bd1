"""Who answers in the playground: one model in memory with its adapter at any strength, or two servers."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Queue
from threading import Event, Lock, Thread
from typing import Any, Protocol

from unsay.endpoint import ChatClient, EndpointError, EndpointSettings
from unsay.errors import UserError
from unsay.generation.greedy import greedy_is_exact, greedy_tokens
from unsay.generation.prompts import EncodedPrompt, encode_prompts
from unsay.generation.responses import library_answers
from unsay.generation.server import messages
from unsay.generation.settings import GenerationSettings, explain_out_of_memory
from unsay.models.adapter_scale import AdapterScale
from unsay.models.vlm import VLM
from unsay.records import Kind, Phase, Prompt, SourceRow
from unsay.run.own_answers import request_prompts

MAX_STRENGTH = 1.5
"""Of the adapter; beyond, most models only babble."""


@dataclass(frozen=True)
class Spoken:
    """An answer so far."""

    text: str
    tokens: int
    finish_reason: str | None = None  # `stop` or `length` once it is complete


class Speaker(Protocol):
    """Answers as either model."""

    @property
    def gradual(self) -> bool:
        """Whether the adapter's strength can be chosen."""
        ...

    def say(self, phase: Phase, prompt: Prompt, strength: float = 1.0) -> Iterator[Spoken]:
        """The answer as it grows. Closing the iterator ends it.

        Raises:
            UserError: the prompt does not fit, or memory runs out; an `EndpointError` where a server fails.
        """
        ...


class LocalSpeaker:
    """One model in memory for both phases and for every page that is open: each answer gets a token in turn."""

    def __init__(self, vlm: VLM, settings: GenerationSettings) -> None:
        """`vlm` has its adapter on."""
        self.settings = settings
        self._scale = AdapterScale(vlm)
        self._turn = Lock()

    @property
    def gradual(self) -> bool:
        """Whether the adapter is LoRA alone."""
        return self._scale.gradual

    def warm_up(self) -> None:
        """Answer one word, so that nobody waits for what is tried once per model (see `greedy_is_exact`)."""
        (hello,) = request_prompts([SourceRow(text="Hi", source="play")], "play", Kind.BENIGN)
        answer = self.say(Phase.AFTER, hello)
        next(answer)

    def say(self, phase: Phase, prompt: Prompt, strength: float = 1.0) -> Iterator[Spoken]:
        """The answer, greedy unless the settings say otherwise, with the adapter at `strength` (0 to 1.5) if after."""
        strength = strength if phase is Phase.AFTER else 0.0
        with self._turn, explain_out_of_memory(self.settings):
            vlm = self._scale.set(strength)
            (row,) = encode_prompts(vlm, [prompt], self.settings)
            exact = self.settings.temperature == 0 and greedy_is_exact(vlm, [row])
        tokens = self._greedy(vlm, row, strength) if exact else self._by_library(vlm, row, strength)
        answer: list[int] = []
        for token in tokens:
            answer.append(token)
            # A character whose last bytes are still to come is not shown.
            yield Spoken(_text(vlm, answer).lstrip().rstrip("\ufffd"), len(answer))
        ended = bool(answer) and answer[-1] in vlm.end_tokens
        yield Spoken(_text(vlm, answer).strip(), len(answer), "stop" if ended else "length")

    def _greedy(self, vlm: VLM, row: EncodedPrompt, strength: float) -> Iterator[int]:
        tokens = greedy_tokens(vlm, row, self.settings.max_new_tokens)
        while True:
            with self._turn, explain_out_of_memory(self.settings):
                self._scale.set(strength)
                token = next(tokens, None)
            if token is None:
                return
            yield token

    def _by_library(self, vlm: VLM, row: EncodedPrompt, strength: float) -> Iterator[int]:
        """Tokens of transformers' `generate`, which hands them out but does not stop between two: it gets a thread."""
        tokens: Queue[int | BaseException | None] = Queue()
        relay = _Relay(tokens, self._turn, lambda: self._scale.set(strength))

        def work() -> None:
            try:
                with self._turn, explain_out_of_memory(self.settings):
                    self._scale.set(strength)
                    library_answers(vlm, [row], self.settings, streamer=relay)
                tokens.put(None)
            except BaseException as error:  # handed on to the reader, who may have left
                tokens.put(error)

        Thread(target=work, daemon=True).start()
        try:
            while (token := tokens.get()) is not None:
                if isinstance(token, BaseException):
                    raise token
                yield token
        finally:
            relay.left.set()


class _LeftError(Exception):
    """Nobody reads the answer any more."""


class _Relay:
    """A streamer of transformers: passes tokens on, and between two lets others have their turn."""

    def __init__(self, tokens: "Queue[int | BaseException | None]", turn: Lock, resume: Any) -> None:
        self.left = Event()
        self._tokens, self._turn, self._resume = tokens, turn, resume
        self._begun = False

    def put(self, tokens: Any) -> None:
        """A new token; the first call brings the prompt."""
        if self._begun:
            self._tokens.put(int(tokens))
        self._begun = True
        if self.left.is_set():
            raise _LeftError
        self._turn.release()
        time.sleep(0.001)  # a lock that is taken again at once is never handed over
        self._turn.acquire()
        self._resume()

    def end(self) -> None:
        """The answer is complete; nothing to do."""


def _text(vlm: VLM, answer: list[int]) -> str:
    text: str = vlm.tokenizer.decode(answer, skip_special_tokens=True)
    return text


class ServerSpeaker:
    """Two models behind OpenAI-compatible servers, or two on one."""

    gradual = False

    def __init__(self, servers: dict[Phase, EndpointSettings], settings: GenerationSettings) -> None:
        """Nothing is sent yet."""
        self.settings = settings
        self._clients = {phase: ChatClient(server) for phase, server in servers.items()}

    def say(self, phase: Phase, prompt: Prompt, strength: float = 1.0) -> Iterator[Spoken]:
        """The answer of that phase's server; its adapter acts as the server has it."""
        del strength
        text, count = "", 0
        for part, ended in self._clients[phase].stream(
            messages(prompt, self.settings.system),
            max_tokens=self.settings.max_new_tokens,
            temperature=self.settings.temperature,
        ):
            text, count = text + part, count + bool(part)
            yield Spoken(text.strip() if ended else text.lstrip(), count, ended)


def named_server(address: str) -> EndpointSettings:
    """A server from `URL` or `URL#MODEL`; without a name, the only model that it has.

    Raises:
        UserError: not a URL, no answer, or several models.
    """
    url, _, model = address.partition("#")
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url}: not the URL of a server: write http://localhost:8000/v1, or http://…/v1#MODEL")
    if model:
        return EndpointSettings(url=url, model=model)
    try:
        names = ChatClient(EndpointSettings(url=url, model="unknown", retries=0)).models()
    except EndpointError as error:
        raise UserError(str(error)) from None
    if len(names) != 1:
        listed = ", ".join(names[:8]) or "none"
        raise UserError(f"{url}: has {len(names)} models ({listed}): name one as {url}#MODEL")
    return EndpointSettings(url=url, model=names[0])
