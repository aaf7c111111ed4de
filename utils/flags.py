"""A script's Args on the command line: groups with headings, each flag with its line of help.

Headings and help are the comments of the Args themselves: `# Heading` on a line of its own, and
`name: type = default  # help`.
"""

import contextlib
import dataclasses
import functools
import inspect
import io
import re
import sys
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

ArgsT = TypeVar("ArgsT")
LINE = re.compile(r"    (?:# (?P<heading>.+)|(?P<name>\w+):.*?(?:  # (?P<help>.+))?)")
METAVARS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


def cli(*args: Any, **options: Any) -> Any:
    """Call tyro.cli with these arguments; end a wrong command line with one line on stderr.

    Exits with status 2 on an unknown flag or a value of a wrong type.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(*args, **options)
    except SystemExit as end:
        if end.code:
            told = io.StringIO(f"error: {without_frame(told.getvalue())}\n")
        raise
    finally:
        sys.stderr.write(told.getvalue())


def without_frame(box: str) -> str:
    """Write the parts of tyro's box as one line, without its title.

    Rules divide the parts. A terminal that knows ASCII alone gets rules of hyphens and no frame.
    """
    box = re.sub(r"\x1b\[[0-9;]*m", "", box)  # colours
    framed = box.startswith("╭")
    lines = [line.strip("│ ") for line in box.splitlines() if line[:1] not in ("╭", "╰")]
    width = max(map(len, lines), default=0)  # that of a rule
    parts, part, full = [], "", False
    for line in [*lines, "-"]:
        if line.strip("─-"):
            word = part.rpartition(" ")[2] + line.partition(" ")[0]
            broken = full and len(word) > width  # a word that is longer than the box
            part += line if broken or not part else f" {line}"
            full = len(line) == width
        elif part:
            parts.append(part)
            part = ""
    return "; ".join(parts if framed or len(parts) == 1 else parts[1:])


def read_flags(
    default: ArgsT, words: Sequence[str] | None, description: str, methods: Iterable[str]
) -> ArgsT:
    """Read a command line.

    Args:
        default: Args with every default.
        words: the flags; None for those of this process.
        description: what --help prints above the flags.
        methods: what takes the place of `{methods}` in the help.

    Returns:
        The filled Args. Exits with status 2 on an unknown flag or a value of a wrong type.
    """
    hints = typing.get_type_hints(type(default), include_extras=True)
    names = ", ".join(methods) or "those of docs/methods.md"
    groups: dict[str, type] = {}
    for heading, helps in grouped(type(default)).items():
        groups[heading] = dataclasses.make_dataclass(
            "Group",
            [
                (name, _shown(hints[name], text.replace("{methods}", names), getattr(default, name)),
                 dataclasses.field(default=getattr(default, name)))
                for name, text in helps.items()
            ],
        )  # fmt: skip
        groups[heading].__doc__ = None
    whole = dataclasses.make_dataclass(
        "Flags",
        [
            (f"group{number}", Annotated[group, tyro.conf.arg(name=heading)],
             dataclasses.field(default_factory=group))
            for number, (heading, group) in enumerate(groups.items())
        ],
    )  # fmt: skip
    found = cli(
        whole, args=words, description=description,
        config=(
            tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff,
        ),
    )  # fmt: skip
    values: dict[str, Any] = {}
    for group in vars(found).values():
        values |= vars(group)
    return dataclasses.replace(default, **values)


@functools.cache
def grouped(args_type: type) -> dict[str, dict[str, str]]:
    """Return the fields of Args by heading, with their help; those of the task's own class first."""
    left = {field.name for field in dataclasses.fields(args_type)}
    groups: dict[str, dict[str, str]] = {}
    for owner in filter(dataclasses.is_dataclass, args_type.__mro__):
        heading = "Other"
        for line in inspect.getsource(owner).splitlines():
            match = LINE.fullmatch(line)
            if match is None:
                continue
            if match["heading"] is not None:
                heading = match["heading"]
            elif match["name"] in left:
                left.remove(match["name"])
                groups.setdefault(heading, {})[match["name"]] = match["help"] or ""
    return groups


def _shown(hint: Any, text: str, default: Any) -> Any:
    """Annotate a field's type with how --help shows it: no None, no default that says nothing."""
    bare = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    if typing.get_origin(bare) in (types.UnionType, typing.Union):
        (bare,) = (part for part in typing.get_args(bare) if part is not type(None))
    metavar = METAVARS.get(bare)
    if typing.get_origin(bare) is Literal:
        metavar = f"{{{','.join(map(str, typing.get_args(bare)))}}}"
    elif typing.get_origin(bare) is tuple:
        parts = [METAVARS[part] for part in typing.get_args(bare) if part is not Ellipsis]
        metavar = " ".join(parts) + (" ..." if Ellipsis in typing.get_args(bare) else "")
    telling = default is not None and default is not False and default != ()
    behaviour = {} if telling else {"help_behavior_hint": ""}
    return Annotated[hint, tyro.conf.arg(help=text, metavar=metavar, **behaviour)]
