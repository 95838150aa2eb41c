"""Typer → this command line's own conventions: one declaration for each command, help that names values, not types."""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

_NEGATIVE = re.compile(r"-\d[\d_]*")
_METAVARS: dict[Any, str] = {int: "N", datetime: "TIME", Path: "FILE"}


class Command(TyperCommand):
    """A command whose help names values and no types of Python."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters as help shows them."""
        return [_named(parameter) for parameter in super().get_params(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """A negative number is an argument and no option."""
        ctx.ignore_unknown_options = any(_NEGATIVE.fullmatch(arg) for arg in args)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """`[OPTIONS] ACCOUNT [AMOUNT]`."""
        return ["[OPTIONS]", *_arguments(self.get_params(ctx))]


class Group(TyperGroup):
    """A group whose options have no types of Python."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters as help shows them."""
        return [_named(parameter) for parameter in super().get_params(ctx)]


class App(typer.Typer):
    """Commands that belong together, each declared where it is defined, joined by `add_typer`.

    With a name they are a group, which its parent's help shows in `panel`. Without one they are commands of the parent
    itself, and its help shows each of them in `panel`.
    """

    def __init__(self, name: str | None = None, *, panel: str | None = None, **options: Any) -> None:
        super().__init__(name=name, cls=Group, no_args_is_help=True, **options)
        self.info.rich_help_panel = panel
        self._panel_of_commands = None if name else panel

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Typer's own, with these conventions."""
        return super().command(name, cls=Command, rich_help_panel=self._panel_of_commands, **options)


def _named(parameter: Any) -> Any:
    """A flag takes no value; what a value is called says more than its type."""
    has_choices = parameter.type_descriptor.is_choice
    if isinstance(parameter, TyperArgument):
        parameter.metavar = parameter.metavar or parameter.name.upper()
        if not has_choices:
            parameter.display_type_rich = _no_type
    elif isinstance(parameter, TyperOption) and parameter.metavar is None and not has_choices:
        annotation = parameter.type_descriptor.annotation
        parameter.metavar = "" if parameter.is_flag else _METAVARS.get(annotation, "TEXT")
    return parameter


def _no_type(ctx: Any) -> None:
    """Of an argument its name says what it is."""


def _arguments(parameters: Iterable[Any]) -> Iterable[str]:
    for parameter in parameters:
        if isinstance(parameter, TyperArgument):
            name = f"{parameter.metavar}..." if parameter.nargs != 1 else str(parameter.metavar)
            yield name if parameter.required else f"[{name}]"
