"""Text to token ids and back, as a model file carries it.

The tokenizer (format of the ``tokenizers`` library) and the chat template travel in the file's
``metadata_props`` under the names that Hugging Face gives their files.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from exporters.errors import MissingRequirementError, UserError
from exporters.illm.source import Texts

if TYPE_CHECKING:
    import onnx

TOKENIZER_KEY = "tokenizer.json"
TEMPLATE_KEY = "chat_template.jinja"


class Tokenizer:
    """Encodes and decodes.

    Args:
        begin_token: put before every text that is encoded; None where the tokenizer does it itself.
    """

    def __init__(self, texts: Texts, begin_token: int | None = None) -> None:
        if find_spec("tokenizers") is None:
            raise MissingRequirementError(
                "tokenizers is not installed; text needs it", fix="pip install 'edgeport[llm]'"
            )
        import tokenizers

        self._texts = texts
        self._begin = begin_token
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(texts.tokenizer_json)
        except Exception as error:  # the library raises the base class itself
            raise UserError(
                f"the tokenizer cannot be read: {error}",
                fix="Save it again with a current version of transformers",
            ) from error

    @property
    def size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def has_chat_template(self) -> bool:
        return self._texts.chat_template is not None

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids; ``special`` adds what begins a text."""
        ids = list(self._tokenizer.encode(text, add_special_tokens=special).ids)
        if special and self._begin is not None and ids[:1] != [self._begin]:
            ids.insert(0, self._begin)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def chat(self, prompt: str, system: str | None = None) -> str:
        """``prompt`` as the user's turn of a conversation, ready for the model's answer.

        Raises:
            UserError: the model has no chat template, or it refuses this conversation.
            MissingRequirementError: jinja2 is not installed.
        """
        if self._texts.chat_template is None:
            raise UserError(
                "this model has no chat template", fix="Leave --chat out: the prompt is continued"
            )
        if find_spec("jinja2") is None:
            raise MissingRequirementError(
                "jinja2 is not installed; chat templates need it", fix="pip install 'edgeport[llm]'"
            )
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        return self._render(messages)

    def _render(self, messages: list[dict[str, str]]) -> str:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(words: str) -> None:
            raise jinja2.TemplateError(words)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = refuse
        try:
            template = environment.from_string(self._texts.chat_template or "")
            return template.render(
                messages=messages, add_generation_prompt=True, **self._texts.special_tokens
            )
        except jinja2.TemplateError as error:
            raise UserError(
                f"the chat template refuses: {error}", fix="Leave --chat or --system out"
            ) from error


def attach(proto: onnx.ModelProto, texts: Texts) -> None:
    """Put tokenizer and chat template into the model file."""
    proto.metadata_props.add(key=TOKENIZER_KEY, value=texts.tokenizer_json)
    if texts.chat_template is not None:
        proto.metadata_props.add(key=TEMPLATE_KEY, value=texts.chat_template)
