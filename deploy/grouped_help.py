"""Every command: ``--help`` in groups, and what it is given to load is as it was signed.

Options stand under the heading that their ``rich_help_panel`` names. typer draws such groups only
with rich's boxes, in which examples cannot be copied; this does the same in plain text.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

_WRITTEN = ("output", "overwrite", "markdown", "junit")
"""Parameters that name what a command writes; what lies there is replaced, not loaded."""


class GroupedCommand(TyperCommand):
    """A command whose options are listed by group, in order of first mention."""

    def invoke(self, ctx: Any) -> Any:
        from deploy.provenance.loading import paths_in, require_as_signed

        given = {name: value for name, value in ctx.params.items() if name not in _WRITTEN}
        for path in paths_in(given.values()) if self.name != "sign" else ():
            require_as_signed(path)
        return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(_group_of(parameter), []).append(record)
        for title in sorted(groups, key=_ends_last):
            with formatter.section(title):
                formatter.write_dl(groups[title])


def _group_of(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return getattr(parameter, "rich_help_panel", None) or "Options"


def _ends_last(title: str) -> int:
    return {"Arguments": 0, "Options": 1}.get(title, 2)
