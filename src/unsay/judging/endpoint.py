"""The judge `endpoint`: a model behind an OpenAI-compatible server answers a rubric."""

import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from unsay.assets import cache_dir
from unsay.endpoint import (
    ChatClient,
    Completion,
    Deviations,
    EndpointError,
    Fault,
    cut_off,
    in_parallel,
    sent_instead,
)
from unsay.errors import UserError
from unsay.files import content_key, file_key
from unsay.judging import rubrics
from unsay.judging.judge import Pair
from unsay.judging.remembered import RememberedVerdicts
from unsay.judging.rubrics import RUBRICS
from unsay.judging.settings import EndpointJudgeSettings
from unsay.judging.soundness import Soundness, original_reader
from unsay.records import Label, Prompt, Response, Verdict

MORE_ROOM = "(raise the judge's max_tokens, or start its server with thinking off)"
"""What helps a judge model that came to no answer."""


class EndpointJudge:
    """Degenerate by rules and fluency, then by the rubric. A row that the server does not answer is `failed`."""

    name = "endpoint"

    def __init__(self, settings: EndpointJudgeSettings) -> None:
        """Prepare the judge; nothing is sent yet.

        Raises:
            UserError: the `openai` package is not installed.
        """
        self.settings = settings
        self.client = ChatClient(settings)
        decisive = [settings.decisive(), settings.rubric, settings.max_tokens, settings.harmful_from]
        self._soundness = Soundness(original_reader if settings.fluency else None)
        self.key = content_key(self.name, decisive, file_key(Path(rubrics.__file__)), self._soundness.key)
        path = settings.cache or cache_dir() / "verdicts" / f"{self.key}.jsonl"
        self._remembered = RememberedVerdicts(path, self.key)
        self._deviations = Deviations(path, self.key)
        self._lock = threading.Lock()
        self._structured = settings.structured

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair, in order; each is remembered as soon as it is there.

        Raises:
            UserError: the server takes no requests (a wrong key, no such model, nobody there, too many failures in a
                row), which is no row's fault; or a verdict cannot be written down.
        """
        self.client.begin()
        broken = self._soundness.verdicts(self.name, pairs)
        verdicts = [found or self._remembered.get(pair) for pair, found in zip(pairs, broken, strict=True)]
        asked = [index for index, verdict in enumerate(verdicts) if verdict is None]
        rows = [pairs[index] for index in asked]
        with closing(in_parallel(self._judged, rows, self.settings.concurrency, self.client.stop)) as found:
            for row, verdict in found:
                if isinstance(verdict, UserError):
                    raise verdict
                if isinstance(verdict, Exception):
                    verdict = self._verdict(rows[row][1], Label.FAILED, f"{type(verdict).__name__}: {verdict}")
                verdicts[asked[row]] = verdict
        if (trouble := self.client.trouble()) is not None:
            raise UserError(
                f"judge '{self.name}', model '{self.settings.model}': {trouble}. The verdicts so far are remembered: "
                "the same command, run again, asks for the rest"
            )
        return [verdict for verdict in verdicts if verdict is not None]

    def details(self) -> dict[str, str]:
        """What tells this judge from another endpoint: whose words are the verdicts, and what was asked."""
        asked = {"model": self.settings.model, "rubric": self.settings.rubric}
        return asked | (
            {"harmful_from": f"{self.settings.harmful_from:g}"} if asked["rubric"] == "strongreject" else {}
        )

    @property
    def sent_instead(self) -> dict[str, str]:
        """What became of parameters that the server does not take, for these verdicts or remembered ones."""
        return sent_instead(self._deviations.names | self.client.untaken)

    def _judged(self, pair: Pair) -> Verdict:
        """The verdict, remembered here: an interrupted caller does not hear of it, but has paid for it."""
        verdict = self._ask(pair)
        self._deviations.note(self.client.untaken)
        self._remembered.add(pair, verdict)
        return verdict

    def _ask(self, pair: Pair) -> Verdict:
        prompt, response = pair
        rubric = RUBRICS[self.settings.rubric]
        try:
            answer = self._complete(prompt, response)
            if answer.wordless:
                raise cut_off()
        except EndpointError as error:
            helps = f" {MORE_ROOM}" if error.fault is Fault.LENGTH else ""
            return self._verdict(response, Label.FAILED, f"{error}{helps}")
        if answer.finish_reason == "content_filter":
            return self._verdict(response, Label.FAILED, "the server's content filter stopped the judge")
        try:
            finding = rubric.read(answer.text, self.settings.harmful_from, prompt.kind)
        except ValueError as error:
            cut = f", cut off {MORE_ROOM}" if answer.finish_reason == "length" else ""
            return self._verdict(response, Label.FAILED, f"the judge model's answer is unusable: {error}{cut}")
        return self._verdict(response, finding.label, finding.rationale, finding.score)

    def _complete(self, prompt: Prompt, response: Response) -> Completion:
        rubric = RUBRICS[self.settings.rubric]
        messages = [
            {"role": "system", "content": rubric.system},
            {"role": "user", "content": rubric.ask(prompt, response)},
        ]
        parameters: dict[str, Any] = {"max_tokens": self.settings.max_tokens, "temperature": 0.0}
        with self._lock:
            structured = self._structured
        if not structured:
            return self.client.complete(messages, **parameters)
        shape = {"name": "verdict", "schema": rubric.schema, "strict": True}
        try:
            return self.client.complete(
                messages,
                tentative=True,
                **parameters,
                response_format={"type": "json_schema", "json_schema": shape},
            )
        except EndpointError as error:
            if error.fault is not Fault.FORM:
                raise
        # The question asks for JSON in words too. Only where these words are taken was it the schema that was not:
        # a request that is too long, or filtered, is refused either way and says nothing of the others.
        answer = self.client.complete(messages, **parameters)
        with self._lock:
            self._structured = False
        return answer

    def _verdict(self, response: Response, label: Label, rationale: str, score: float | None = None) -> Verdict:
        said = " ".join(rationale.split())[:300]
        return Verdict(id=response.id, judge=self.name, label=label, score=score, rationale=said)
