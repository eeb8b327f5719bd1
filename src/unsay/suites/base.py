"""What a suite is: a title, a source, and a function that lists its prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unsay.data.splits import prompt_key
from unsay.files import content_key
from unsay.records import Kind, Modality, Prompt, Response


@dataclass(frozen=True)
class Setting:
    """Where and how large a suite is built.

    Attributes:
        images: folder for the images that a suite renders.
        limit: at most so many prompts, drawn deterministically; None for all.
    """

    images: Path
    limit: int | None = None


@dataclass(frozen=True)
class Measure:
    """How a utility suite turns an answer into a number.

    Attributes:
        value: prompt and response → the number.
        unit: `rate` for fractions, else what stands beside the number.
        higher_is_better: False for error rates.
    """

    value: Callable[[Prompt, Response], float]
    unit: str = "rate"
    higher_is_better: bool = True


@dataclass(frozen=True)
class Suite:
    """One set of prompts, of one kind and modality.

    Attributes:
        name: how it is called on the command line and in files.
        title: how it is called in reports.
        kind: attack, benign or utility.
        modality: how the request reaches the model.
        source: where the prompts come from.
        licence: of the data.
        prompts: builds its prompts.
        twin: for the image form of a text suite, that suite's name: the same requests in words.
        measure: for utility suites that are generated, the score of one answer.
        likelihood: a utility suite that is scored by the loss on its reference answers, in nats per token; nothing is
            generated.
        needs_data: whether it exists only where `UNSAY_DATA_DIR` points to the public benchmark data.
    """

    name: str
    title: str
    kind: Kind
    modality: Modality
    source: str
    licence: str
    prompts: Callable[[Setting], list[Prompt]]
    twin: str | None = None
    measure: Measure | None = None
    likelihood: bool = False
    needs_data: bool = False

    def row(
        self,
        text: str,
        *,
        request: str | None = None,
        image: Path | None = None,
        category: str | None = None,
        reference: str | None = None,
        label: str = "",
    ) -> Prompt:
        """A prompt of this suite; its id and group follow from its content.

        Args:
            text: what the model is given in words.
            request: what is asked, if that is not the text itself.
            image: what the model is given to see.
            category: of harm, or of the question.
            reference: the right answer.
            label: what tells prompts with equal words apart.
        """
        asked = request or text
        return Prompt(
            id=f"{self.name}-{content_key(asked, text, label)[:12]}",
            suite=self.name,
            kind=self.kind,
            modality=self.modality,
            prompt=text,
            request=asked,
            image=None if image is None else str(image),
            group=prompt_key(f"{asked} {label}" if label else asked),
            category=category,
            reference=reference,
        )


def sample(rows: Sequence[str], limit: int | None) -> list[int]:
    """Indices of at most `limit` texts, chosen by a hash of the text: stable when others come or go, in row order."""
    order = sorted(range(len(rows)), key=lambda index: content_key("sample", rows[index]))
    return sorted(order[:limit])
