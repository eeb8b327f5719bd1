"""Answers from a model behind an OpenAI-compatible server (vLLM, SGLang, `transformers serve`, a paid API).

A failed request is no answer: it becomes a row of `<suite>.<phase>.errors.jsonl`, no file of responses is written, and
the run ends with a `UserError` that says what helps. Answers are in the response cache, so the same command run again
requests only the missing ones. Thus an unanswered prompt is never counted as safe.
"""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import Field

from unsay.data.pictures import read_image
from unsay.endpoint import (
    PASSING,
    ChatClient,
    Completion,
    EndpointError,
    EndpointSettings,
    Fault,
    IgnoredParameters,
    describe_ignored,
    in_parallel,
)
from unsay.errors import UserError
from unsay.files import content_key, write_rows
from unsay.generation.responses import Progress, ResponseCache, answer_keys, check_images
from unsay.generation.settings import GenerationSettings
from unsay.records import Prompt, Record, Response

FINISHED = frozenset({"stop", "length"})
"""How an answer may end; one that a content filter ends is the server's and not the model's."""

CONTINUED = {"continue_final_message": True, "add_generation_prompt": False}
"""Fields of a request whose last turn is the beginning of the answer; vLLM, SGLang and TGI take them."""

REFUSED = frozenset({Fault.CONTENT, Fault.FORM})
"""Faults that the same server would repeat."""


class EndpointResponderSettings(EndpointSettings):
    """The server that answers the suites instead of a model on this machine."""

    base_model: str | None = Field(
        None,
        description="where `model` is an adapter: the name of the model below it on that server, to prove that the "
        "adapter acts; null asks the server, which vLLM and SGLang answer",
    )
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="further fields of each request: {chat_template_kwargs: {enable_thinking: false}}",
    )


class FailedRequest(Record):
    """A prompt that got no answer."""

    id: str
    suite: str
    error: str
    fault: Fault
    """Why; it decides what helps."""


class EndpointResponder:
    """Answers prompts by a server; cached answers are not requested again."""

    def __init__(self, settings: EndpointResponderSettings) -> None:
        """Prepare the client; nothing is sent yet."""
        self.settings = settings
        self.client = ChatClient(settings)
        self._noted: frozenset[str] = frozenset()

    @property
    def ignored_parameters(self) -> dict[str, str]:
        """What became of parameters that the server ignored, for these answers or cached ones."""
        return describe_ignored(self._noted | self.client.ignored)

    def model_key(self, generation: GenerationSettings) -> str:
        """Content key of what decides an answer besides its prompt: server, model, settings."""
        return content_key(
            "endpoint", self.settings.decisive(), self.settings.extra, generation.model_dump(exclude={"batch_tokens"})
        )

    def respond(
        self,
        prompts: Sequence[Prompt],
        generation: GenerationSettings,
        path: Path,
        progress: Progress | None = None,
        *,
        begun: Mapping[str, str] | None = None,
    ) -> list[Response]:
        """Answer every prompt and write the rows to `path`, in the order of the prompts.

        Each answer is added to `cache.jsonl` beside `path` as soon as it arrives. `begun` is prompt id → the words that
        its answer begins with, as if the model had said them; the rows hold them too.

        Raises:
            UserError: an image is unreadable, or prompts got no answer: how many, why, and what to do.
        """
        check_images(prompts)
        self.client.begin()
        cache = ResponseCache(path.parent / "cache.jsonl")
        key = self.model_key(generation)
        ignored = IgnoredParameters(cache.journal.path, key)
        self._noted |= ignored.names
        words = {prompt.id: (begun or {}).get(prompt.id, "") for prompt in prompts}
        keys = {name: answer_keys(key, first)[0] for name, first in words.items()}
        done = {prompt.id: row for prompt in prompts if (row := cache.get(prompt, keys[prompt.id])) is not None}
        missing = [prompt for prompt in prompts if prompt.id not in done]
        failed: list[FailedRequest] = []

        def answer_prompt(prompt: Prompt) -> Response:
            """The answer, cached here: an interrupted caller does not get it, but has paid for it."""
            answer = self._request(prompt, generation, keys[prompt.id], words[prompt.id])
            ignored.note(self.client.ignored)
            cache.add([(prompt, answer)])
            return answer

        if progress is not None:
            progress(len(done), len(prompts))
        with closing(in_parallel(answer_prompt, missing, self.settings.concurrency, self.client.stop)) as answers:
            for index, answer in answers:
                prompt = missing[index]
                if isinstance(answer, EndpointError):
                    reason = str(answer)[:300]
                    failed.append(FailedRequest(id=prompt.id, suite=prompt.suite, error=reason, fault=answer.fault))
                    continue
                if isinstance(answer, Exception):
                    raise answer
                done[prompt.id] = answer
                if progress is not None:
                    progress(len(done), len(prompts))
        errors = path.with_suffix(".errors.jsonl")
        if failed:
            reason = str(self.client.trouble() or failed[0].error)
            failed.sort(key=lambda row: row.id)
            write_rows(errors, failed)
            raise UserError(
                f"{len(failed)} of {len(prompts)} prompts of suite '{prompts[0].suite}' got no answer ({reason}); "
                f"{errors} names them. {_what_helps(failed)}"
            )
        errors.unlink(missing_ok=True)
        responses = [done[prompt.id] for prompt in prompts]
        write_rows(path, responses)
        return responses

    def _request(self, prompt: Prompt, generation: GenerationSettings, key: str, begun: str) -> Response:
        body = self.settings.extra | (CONTINUED if begun else {})
        extra: dict[str, Any] = {"extra_body": body} if body else {}
        answer = self.client.complete(
            messages(prompt, generation.system, begun),
            max_tokens=generation.max_new_tokens,
            temperature=generation.temperature,
            seed=generation.seed,
            **extra,
        )
        if answer.finish_reason not in FINISHED:
            fault = Fault.CONTENT if answer.finish_reason == "content_filter" else Fault.SERVER
            raise EndpointError(f"the server ended the answer with '{answer.finish_reason[:40]}'", fault)
        return _response(prompt, answer, key, begun)


def _what_helps(failed: Sequence[FailedRequest]) -> str:
    """What to do about prompts without an answer; to run the same again only where that can help."""
    counts = Counter(row.fault for row in failed)
    ways = []
    if cut_off := counts[Fault.LENGTH]:
        ways.append(
            f"{cut_off} reached the token limit before their first word: raise evaluation.generation.max_new_tokens, "
            "or limit or switch off the model's reasoning by evaluation.responder.extra"
        )
    if refused := sum(counts[fault] for fault in REFUSED):
        ways.append(
            f"{refused} would be rejected again: use another server, or leave the suite out of evaluation.suites"
        )
    if any(counts[fault] for fault in PASSING | {Fault.ACCESS}):
        ways.append("the other answers are kept: run the same command again to request only the missing ones")
    advice = "; ".join(ways)
    return advice[0].upper() + advice[1:]


def messages(prompt: Prompt, system: str | None, begun: str = "") -> list[dict[str, Any]]:
    """One prompt in OpenAI's chat format, with its system prompt, earlier turns and the answer's first words.

    A picture comes before the prompt's text, as PNG in a data URL.
    """
    content: str | list[dict[str, Any]] = prompt.prompt
    if prompt.image is not None:
        picture = {"type": "image_url", "image_url": {"url": data_url(Path(prompt.image))}}
        content = [picture, {"type": "text", "text": prompt.prompt}]
    system = system if prompt.system is None else prompt.system
    opening = [] if system is None else [{"role": "system", "content": system}]
    turns = [{"role": turn.role, "content": turn.text} for turn in prompt.turns]
    last = [{"role": "assistant", "content": begun}] if begun else []
    return [*opening, *turns, {"role": "user", "content": content}, *last]


def data_url(path: Path) -> str:
    """A picture as every other responder sees it (RGB, transparency on white), losslessly, as a data URL."""
    buffer = io.BytesIO()
    read_image(path).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _response(prompt: Prompt, answer: Completion, key: str, begun: str) -> Response:
    return Response.of(
        prompt,
        response=(begun + answer.text).strip(),
        finish_reason=answer.finish_reason,
        tokens=answer.tokens_out,
        # Servers count a picture's tokens among the prompt's and do not report them apart.
        prompt_tokens=answer.tokens_in,
        model_key=key,
    )
