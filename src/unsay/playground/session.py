"""One playground: it loads the models in the background, streams their answers, and has them judged."""

import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from unsay.config import RunConfig, read_run_config
from unsay.endpoint import EndpointError
from unsay.errors import UserError
from unsay.files import read_json
from unsay.generation.settings import GenerationSettings
from unsay.judges import Judge, build_judge, judge_all, reads_original
from unsay.judges.agreement import Judged
from unsay.judges.refusal import refusal_reason
from unsay.models import load
from unsay.playground import example_buttons
from unsay.playground.kept_rows import KeptRows
from unsay.playground.request import Question, Request, as_prompt
from unsay.playground.speakers import LocalSpeaker, ServerSpeaker, Speaker, Spoken, named_server
from unsay.records import Label, Phase, Prompt, Response, Verdict
from unsay.run.directory import Adapter, original_of
from unsay.run.environment import check_device
from unsay.run.finished import public_name
from unsay.run.score import judge_info
from unsay.scoring import JudgeInfo

Line = dict[str, Any]
"""One line of an answer's stream."""

WAIT = 1.0
"""Seconds between two signs of life to a page that waits for the model."""


@dataclass(frozen=True)
class PlaySettings:
    """What can be chosen of a playground."""

    max_tokens: int = 96  # longest answer
    device: str | None = None  # torch device; None takes the run's
    keep: Path = Path("kept.jsonl")  # suite file of the rows that are kept


@dataclass
class Session:
    """Two models, a judge and some examples behind one page.

    Attributes:
        title: what is played with, for the page.
        names: how the two models are called.
        load_speaker: loads the models; called once, in the background.
        load_judge: likewise.
        examples: ready requests, harmless first.
        kept: takes the rows that are kept.
        max_tokens: of an answer; how far the judge agrees with people depends on it.
    """

    title: str
    names: dict[Phase, str]
    load_speaker: Callable[[], Speaker]
    load_judge: Callable[[], Judge]
    examples: list[Prompt]
    kept: KeptRows
    max_tokens: int
    _speaker: Speaker | None = field(default=None, repr=False)
    _judge: Judge | None = field(default=None, repr=False)
    _about_judge: JudgeInfo | None = None
    _trouble: dict[str, str] = field(default_factory=dict)  # what could not be loaded → why
    _spoken_for: Event = field(default_factory=Event, repr=False)  # set once the models are loaded, or cannot be
    _judged_by: Event = field(default_factory=Event, repr=False)
    _judging: Lock = field(default_factory=Lock, repr=False)

    def start(self) -> None:
        """Load the models and then the judge, in the background."""
        Thread(target=self._load, daemon=True).start()

    def _load(self) -> None:
        with self._noting("models", self._spoken_for):
            self._speaker = self.load_speaker()
        with self._noting("judge", self._judged_by):
            judge = self.load_judge()
            self._about_judge = judge_info(judge, Judged(tokens=self.max_tokens, jailbreaks=False))
            self._judge = judge

    @contextmanager
    def _noting(self, part: str, settled: Event) -> Iterator[None]:
        try:
            yield
        except (UserError, EndpointError) as error:
            self._trouble[part] = str(error)
        except Exception as error:  # the page says so; without this a thread would end unseen
            self._trouble[part] = f"cannot be loaded ({type(error).__name__})"
        finally:
            settled.set()

    def state(self) -> dict[str, Any]:
        """What the page shows around the answers."""
        return {
            "models": self._part(self._spoken_for, "models"),
            "judge": self._part(self._judged_by, "judge"),
            "gradual": self._speaker is not None and self._speaker.gradual,
            "judged": None if self._about_judge is None else judge_line(self._about_judge),
        }

    def _part(self, settled: Event, part: str) -> str:
        return self._trouble.get(part) or ("ready" if settled.is_set() else "loading")

    def answer(self, question: Question) -> Generator[Line]:
        """The answer of one model as it grows, then what it cost, then its verdict; or one `error`."""
        try:
            with self.prompt(question) as prompt:
                yield from self._answer(question, prompt)
        except (UserError, EndpointError) as error:
            yield {"error": str(error)}
        except Exception as error:  # its message might quote the request
            yield {"error": f"no answer ({type(error).__name__})"}

    def _answer(self, question: Question, prompt: Prompt) -> Iterator[Line]:
        while not self._spoken_for.wait(WAIT):
            yield {"waiting": "the model is still loading"}
        if self._speaker is None:
            raise UserError(self._trouble["models"])
        began, spoken = time.monotonic(), Spoken("", 0)
        for spoken in self._speaker.say(question.phase, prompt, question.strength):
            yield {"text": spoken.text, "declines": refusal_reason(spoken.text) is not None}
        yield {
            "tokens": spoken.tokens,
            "seconds": round(time.monotonic() - began, 2),
            "complete": spoken.finish_reason == "stop",
        }
        while not self._judged_by.wait(WAIT):
            yield {"waiting": "the judge is still loading"}
        yield {"verdict": self._verdict(prompt, spoken)}

    def _verdict(self, prompt: Prompt, spoken: Spoken) -> dict[str, Any]:
        if self._judge is None:
            return {"label": Label.FAILED, "harm": None, "why": f"no judge: {self._trouble['judge']}"}
        response = Response.of(
            prompt,
            response=spoken.text,
            finish_reason=spoken.finish_reason or "length",
            tokens=spoken.tokens,
            model_key="play",
        )
        with self._judging:
            (verdict,) = judge_all(self._judge, [(prompt, response)])
        return {"label": verdict.label, "harm": verdict.score, "why": _reason(verdict)}

    @contextmanager
    def prompt(self, asked: Request) -> Iterator[Prompt]:
        """What is asked as a prompt; its picture opens while the block lasts."""
        number = asked.example if isinstance(asked, Question) else None
        if number is None:
            with as_prompt(asked) as prompt:
                yield prompt
        elif 0 <= number < len(self.examples):
            yield self.examples[number]
        else:
            raise UserError("no such example: load the page again")

    def keep(self, question: Question) -> dict[str, Any]:
        """Add what was asked to the suite file; where it is, and how many rows it has."""
        with self.prompt(question) as prompt:
            rows = self.kept.add(prompt)
        return {"path": str(self.kept.path), "rows": rows}


def _reason(verdict: Verdict) -> str:
    """Why, for people. The judge's own words may quote the answer, unless a rule or the probe has written them."""
    return verdict.rationale if verdict.judge in ("probe", "rules") else ""


def judge_line(about: JudgeInfo) -> str:
    """Which judge it is, how far it agrees with people, and what it is not; one line."""
    measured = about.headline()
    if measured is None:
        trust = "it was never compared with people"
    else:
        accuracy = measured[1]
        trust = f"it agrees with people on {accuracy.value:.0%} of {accuracy.n:,} labelled answers ({accuracy.dataset})"
    eyes = "" if about.reads_pictures else " It reads words and sees no picture."
    return (
        f"Judge {about.name}: {trust}.{eyes} A label is an estimate of one answer, not a finding about the model; "
        "whether a request is harmful it takes from you."
    )


def of_run(run_dir: Path, settings: PlaySettings) -> Session:
    """A playground of what a run has learned, with the run's own judge and requests.

    Raises:
        UserError: no such run, or it has no adapter.
    """
    config = read_run_config(run_dir)
    adapter = _adapter_of(run_dir)
    examples = example_buttons.of_folder(run_dir)
    return _session(run_dir.resolve().name, config, adapter, settings, examples)


def of_model(model: str, adapter: Path, settings: PlaySettings) -> Session:
    """A playground of any model and adapter, with the judge and requests that are packaged; a `UserError` as above."""
    config = RunConfig(model=model)
    return _session(adapter.resolve().name, config, Adapter.open(adapter).folder, settings, _packaged_examples())


def of_servers(before: str, after: str, settings: PlaySettings) -> Session:
    """A playground of two models behind servers, each as `URL` or `URL#MODEL`.

    Raises:
        UserError: no URL, a server that does not answer, or one that has several models where none is named.
    """
    servers = {Phase.BEFORE: named_server(before), Phase.AFTER: named_server(after)}
    generation = GenerationSettings(max_new_tokens=settings.max_tokens)
    return Session(
        title="two servers",
        names={phase: f"{server.model} at {server.url}" for phase, server in servers.items()},
        load_speaker=lambda: ServerSpeaker(servers, generation),
        load_judge=lambda: build_judge("probe"),
        examples=_packaged_examples(),
        kept=KeptRows(settings.keep),
        max_tokens=settings.max_tokens,
    )


def _session(title: str, config: RunConfig, adapter: Path, settings: PlaySettings, examples: list[Prompt]) -> Session:
    device = settings.device or config.device
    check_device(device)
    generation = config.evaluation.generation.model_copy(update={"max_new_tokens": settings.max_tokens})
    evaluation = config.evaluation

    def load_speaker() -> Speaker:
        vlm = load(config.model, adapter=adapter, device=device, settings=config.model_settings)
        speaker = LocalSpeaker(vlm, generation)
        speaker.warm_up()
        return speaker

    def load_judge() -> Judge:
        reads = reads_original(evaluation.judge, evaluation.judge_settings)
        # A copy of its own: that of the page has its adapter on, at any strength, while the judge reads.
        original = original_of(config.model_copy(update={"device": device})) if reads else None
        return build_judge(evaluation.judge, evaluation.judge_settings, original)

    return Session(
        title=f"{title}, model {public_name(config.model)}",
        names={Phase.BEFORE: "Original model", Phase.AFTER: "Unlearned model"},
        load_speaker=load_speaker,
        load_judge=load_judge,
        examples=examples or _packaged_examples(),
        kept=KeptRows(settings.keep),
        max_tokens=settings.max_tokens,
    )


def _adapter_of(run_dir: Path) -> Path:
    """The folder of the adapter that a run trained or evaluated."""
    if (run_dir / "adapter").is_dir():
        return Adapter.of_run(run_dir).folder
    scores = run_dir / "scores.json"
    if scores.is_file():
        named = read_json(scores).get("settings", {}).get("adapter")
        if isinstance(named, str):
            return Adapter.open(Path(named)).folder
    raise UserError(
        f"{run_dir}: this run has no adapter: finish `unsay unlearn`, or name two servers with --before and --after"
    )


def _packaged_examples() -> list[Prompt]:
    """Examples whose pictures last as long as the process."""
    folder = tempfile.TemporaryDirectory(prefix="unsay-play-")
    _FOLDERS.append(folder)
    return example_buttons.packaged(Path(folder.name))


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Removed at the end of the process."""
