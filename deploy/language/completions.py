"""How a language model's greedy texts go on, beside those of the model it was made from.

Every model continues the same prompts by its likeliest token, over stop tokens too, so that all
texts have the same length. Two nearly equal models part at the first near tie and then write
different texts, so what is counted is how long they are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deploy.language.generating import generate
from deploy.language.stepping import LanguageModel

Progress = Callable[[str, int, int], None]

PROMPTS = (
    "The capital of France is",
    "Water boils at a temperature of",
    "Once upon a time, in a small village by the sea,",
    "The three primary colours are",
    "To bake bread you need",
    "In 1969, the first human being",
    "The opposite of hot is",
    "A triangle has three sides, a square has",
    "Dear Mr. Smith, I am writing to you because",
    "def factorial(n):",
)
TOKENS = 50


@dataclass(frozen=True)
class CompletedText:
    """What one model wrote.

    Attributes:
        tokens: how many there are.
        same_tokens: how many of the first ones are the reference's; None for the reference itself.
        same_text: characters at the beginning that are the reference's.
    """

    name: str
    text: str
    tokens: int
    same_tokens: int | None = None
    same_text: int = 0


@dataclass(frozen=True)
class Completion:
    """One prompt and what every model made of it, the reference first."""

    prompt: str
    texts: tuple[CompletedText, ...]


def complete(
    models: Mapping[str, LanguageModel],
    prompts: Sequence[str] = PROMPTS,
    *,
    tokens: int = TOKENS,
    progress: Progress | None = None,
) -> list[Completion]:
    """Greedy texts of ``models`` by name; the first of them is the reference.

    Raises:
        UserError: an empty prompt, or one that does not fit a model's context.
    """
    found = []
    for index, prompt in enumerate(prompts):
        written = {
            name: generate(model, prompt, max_tokens=tokens, ignore_stop=True)
            for name, model in models.items()
        }
        reference, *others = written.items()
        first = CompletedText(reference[0], reference[1].text, len(reference[1].tokens))
        texts = [first]
        for name, one in others:
            same = _shared(reference[1].tokens, one.tokens)
            shared = _shared(first.text, one.text)
            texts.append(CompletedText(name, one.text, len(one.tokens), same, shared))
        found.append(Completion(prompt, tuple(texts)))
        if progress is not None:
            progress("prompts", index + 1, len(prompts))
    return found


def _shared(ours: Sequence[object], theirs: Sequence[object]) -> int:
    """Tokens, or characters, at the beginning that are the same."""
    pairs = zip(ours, theirs, strict=False)  # one may have met the end of its context
    return next(
        (index for index, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs))
    )
