"""Mistakes in the command itself, told like every other mistake: code, the command with a caret, the nearest name."""

import difflib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from seqvae.cli.console import run_verb
from seqvae.errors import Location, SeqVAEError

HELP_OPTIONS = ["-h", "--help"]


def verbs(name: str, help: str, epilog: str | None = None) -> typer.Typer:
    """A group of verbs (``seqvae``, ``seqvae config``), all alike; alone it prints its help, with exit code 2."""
    return typer.Typer(
        name=name,
        help=help,
        epilog=epilog,
        cls=Verbs,
        no_args_is_help=True,
        context_settings={"help_option_names": HELP_OPTIONS},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # square brackets in the help are text
    )


class Verbs(TyperGroup):
    """Answers a wrong command by a :class:`SeqVAEError`, E260 to E264."""

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:
        wrong = self.get_command(ctx, args[0]) is None and not args[0].startswith("-")
        if wrong and not ctx.resilient_parsing:  # so the shell asks at Tab
            raise SeqVAEError("E260", f"there is no verb `{args[0]}`", where=args[0], hint=_nearest_verb(self, args[0]))
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **settings: Any) -> Any:
        try:
            code = super().main(args, prog_name, standalone_mode=False, **settings)
            raise SystemExit(code if isinstance(code, int) else 0)
        except typer.TyperException as error:
            ctx = getattr(error, "ctx", None)
            if ctx is not None and error.message == ctx.get_help():  # nothing was typed after a group
                print(error.message, file=sys.stderr)
                raise SystemExit(2) from None
            mistake = _usage_error(error, ctx)
        except SeqVAEError as error:
            mistake = error
        typed = [prog_name or "seqvae", *(sys.argv[1:] if args is None else args)]
        mistake.where = _place(typed, mistake.where)
        with run_verb():
            raise mistake


def _nearest_verb(group: TyperGroup, wrong: str) -> str:
    known = list(group.commands)
    longer = [verb for verb in known if wrong.startswith(verb)]  # `evaluate` is meant for `eval`, not for `validate`
    near = longer or difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"the verbs are: {', '.join(known)}"


def _nearest_option(ctx: typer.Context | None, wrong: str) -> str | None:
    command = ctx.command if ctx else None
    arguments = [
        parameter.metavar or "" for parameter in getattr(command, "params", ()) if parameter.opts[0][:1] != "-"
    ]
    if wrong == "--model" and (runs := next((name for name in arguments if "RUN" in name or "MODEL" in name), None)):
        return f"the folder itself stands behind the verb: `{ctx.command_path} {runs}`"
    behind = getattr(command, "commands", {}).values()  # of a group: options that its verbs have
    if any(wrong in parameter.opts for verb in behind for parameter in verb.params):
        return f"it stands behind the verb: `{ctx.command_path} VERB {wrong}`"
    known = _options(ctx)
    longer = [name for name in known if name.startswith(wrong)]
    near = longer if len(wrong) > 2 and longer else difflib.get_close_matches(wrong, known, n=1)
    return f"did you mean `{near[0]}`?" if near else None


def _options(ctx: typer.Context | None) -> list[str]:
    parameters = ctx.command.params if ctx else ()
    return [name for parameter in parameters for name in parameter.opts if name.startswith("--")]


def _usage_error(error: typer.TyperException, ctx: typer.Context | None) -> SeqVAEError:
    """What typer found wrong, by the attributes of its kinds of errors; ``where`` is the word that is wrong."""
    command = ctx.command_path if ctx else "seqvae"
    more = f"`{command} -h` shows what it takes"
    option, parameter = getattr(error, "option_name", None), getattr(error, "param", None)
    if hasattr(error, "possibilities"):
        hint = _nearest_option(ctx, option) or f"{more}; `--` stands before text that begins with a dash"
        return SeqVAEError("E261", f"`{command}` has no option `{option}`", where=option, hint=hint)
    if option is not None:
        return SeqVAEError("E262", f"`{option}` needs a value", where=option, hint=f"write `{option} VALUE`")
    if hasattr(error, "param_type"):
        name = parameter.metavar or parameter.name
        if parameter.opts[0].startswith("-"):
            name = f"{parameter.opts[0]} {name}"
        about = f"{name}: {parameter.help} " if parameter.help else ""
        return SeqVAEError("E262", f"`{command}` needs `{name}`", hint=f"{about}({more})")
    if parameter is not None:
        given, what = _wrong_value(error)
        name = " / ".join(parameter.opts) if parameter.opts[0].startswith("-") else parameter.metavar
        return SeqVAEError("E263", f"`{name}` {what}", where=given, hint=_about(ctx, parameter.opts[0]) or more)
    extra = error.message.rpartition("(")[2].rstrip(")").split(" ")
    if error.message.startswith("Got unexpected extra"):
        hint = f"put quotes around text with spaces; {more}"
        if "--model" in _options(ctx) and Path(extra[0]).is_dir():
            hint = f"a model is named by an option: `--model {extra[0]}`"
        return SeqVAEError("E264", f"`{command}` takes no further `{extra[0]}`", where=extra[0], hint=hint)
    return SeqVAEError("E264", error.message, hint=more)


def _wrong_value(error: typer.TyperException) -> tuple[str | None, str]:
    """(the word that was given, what it should have been)"""
    details = getattr(error.__cause__, "errors", list)()
    given = str(details[0]["input"]) if details else None
    message = error.message.removeprefix("Value error, ").partition(", unable to parse")[0]
    message = message.replace("Input should be ", "should be ").replace("'", "`")
    if message.startswith("should be "):
        return given, f"{message}, not `{given}`"
    return given, f"cannot be {message.removesuffix('.').replace(' is not one of ', ': choose from ')}"


def _about(ctx: typer.Context | None, option: str) -> str | None:
    """What an option means, from its own help."""
    for parameter in ctx.command.params if ctx else ():
        if option in parameter.opts and parameter.help:
            return f"`{option}`: {parameter.help}"
    return None


def _place(words: list[str], wrong: Location | str | None) -> Location | str | None:
    """The command as it was typed, with the place of the ``wrong`` word in it."""
    line, column, width = "", 0, 0
    for word in words:
        quoted = word if line == "" else shlex.quote(word)
        line += " " if line else ""
        if not width and line and wrong and _is_in(str(wrong), word):
            column, width = len(line) + 1, len(quoted)
        line += quoted
    if not width:  # something is missing: after the end
        line, column, width = f"{line} ", len(line) + 2, 1
    return Location("command line", None, column, line, width)


def _is_in(wrong: str, word: str) -> bool:
    """Whether ``word`` is, or holds as ``--option=value`` or as ``-abc``, what is wrong."""
    short = len(wrong) == 2 and wrong[0] == "-" and word[:1] == "-" and word[:2] != "--" and wrong[1] in word
    return short or word == wrong or word.startswith(f"{wrong}=") or word.endswith(f"={wrong}")
