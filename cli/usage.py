"""What was typed wrongly → one line: what is wrong with it, and where help is."""

import re
from datetime import datetime
from typing import Any
from uuid import UUID

import typer

# Typer's own sentences, and how this command line says them.
_SENTENCES = (
    (r"No such command '(.*?)'\. Did you mean (.*)\?", r"there is no command '\1': did you mean \2?"),
    (r"No such command '(.*?)'\.", r"there is no command '\1'"),
    (r"Missing command\.", "name a command"),
    (r"No such option: (.*)", r"there is no option \1"),
    (r"Option '(.*?)' requires an argument\.", r"\1 needs a value"),
    (r"Option '(.*?)' does not take a value\.", r"\1 takes no value"),
    (r"Got unexpected extra argument\(s\) \(.*?(--[\w-]+).*\)", r"there is no option \1"),
    (r"Got unexpected extra argument\(s\) \((.*)\)", r"too many arguments: \1"),
    (r"[Ff]ile '(.*)' does not exist\.", r"there is no file '\1'"),
)


def usage_line(error: typer.TyperException) -> str:
    """The line to print for wrong usage, or for anything else that typer refuses."""
    said = _sentence(error)
    context: Any = getattr(error, "ctx", None)
    return f"{said} (see `{context.command_path} --help`)" if context is not None else said


def _sentence(error: typer.TyperException) -> str:
    if not isinstance(error, typer.BadParameter):
        said = _in_our_words(error.message)
        alike = sorted(getattr(error, "possibilities", None) or [])
        return f"{said}: did you mean {' or '.join(alike)}?" if alike else said
    parameter: Any = error.param
    hint = error.param_hint or (_name(parameter) if parameter is not None else None)
    # A subclass of typer's that is not public.
    if hasattr(error, "param_type"):
        return f"{hint} is missing{_choices(parameter)}"
    said = _expected(error, parameter) or _in_our_words(error.message)
    return f"{hint}: {said}" if hint else said


def _in_our_words(message: str) -> str:
    for pattern, ours in _SENTENCES:
        if re.fullmatch(pattern, message, re.DOTALL):
            return re.sub(pattern, ours, message, flags=re.DOTALL)
    return message.removesuffix(".")


def _name(parameter: Any) -> str:
    options = [option for option in parameter.opts if option.startswith("--")]
    return options[0] if options else str(parameter.metavar or parameter.name.upper())


def _expected(error: typer.BadParameter, parameter: Any) -> str | None:
    """What a value should have been, where pydantic could not read it as its type."""
    if error.__cause__ is None or parameter is None:
        return None
    details: Any = error.__cause__
    given = details.errors()[0]["input"]
    kind = parameter.type_descriptor
    if kind.is_choice:
        return f"'{given}' is not {_one_of(kind.choices)}"
    what = {int: f"a whole number{_range(parameter)}", UUID: "an id such as 6d2c1f3e-…", datetime: "a time"}
    return f"'{given}' is not {what.get(kind.annotation, 'a value that it takes')}"


def _range(parameter: Any) -> str:
    match parameter.min, parameter.max:
        case None, None:
            return ""
        case least, None:
            return f" from {least}"
        case None, most:
            return f" up to {most}"
        case least, most:
            return f" from {least} to {most}"


def _choices(parameter: Any) -> str:
    return f": {_one_of(parameter.type_descriptor.choices)}" if parameter.type_descriptor.is_choice else ""


def _one_of(choices: Any) -> str:
    return f"one of {', '.join(str(choice) for choice in choices)}"
