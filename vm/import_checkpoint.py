"""The publisher's prompts and special tokens → `roles.json` in a checkpoint folder.

The published weights come without prompts: they stand as constants in `videomind/constants.py` of the
published code. The user's own copy of that file is read here as a syntax tree. Nothing in it is run.
"""

from __future__ import annotations

import ast
import os
import string
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from vm.errors import CheckpointError, CheckpointNotFound, InvalidRoles
from vm.prompts import ROLES_FILE
from vm.text_file import read_text, write_json

MAX_BYTES = 2**20
MAX_CHARACTERS = 100_000  # of one constant; a prompt has about a thousand

_TOKENS = {"reg": "REG_TOKEN", "seg_start": "SEG_S_TOKEN", "seg_end": "SEG_E_TOKEN"}
_PROMPTS = {"planner": "PLANNER_PROMPT", "grounder": "GROUNDER_PROMPT", "verifier": "VERIFIER_PROMPT"}
_WANTED = frozenset({*_TOKENS.values(), *_PROMPTS.values()})


def import_constants(checkpoint: Path, constants: Path, force: bool = False) -> Path:
    """Write `roles.json` from the publisher's constants; budgets are left at their defaults.

    Args:
        checkpoint: the checkpoint's folder.
        constants: the user's copy of the published `videomind/constants.py`.
        force: replace a `roles.json` that is there already.

    Returns:
        The path of the file written.

    Raises:
        CheckpointNotFound: no such folder.
        InvalidRoles: a constant is missing or is anything but text, or a prompt is no template.
        CheckpointError: `roles.json` exists and `force` is not set, or it cannot be written.
    """
    if not os.path.isdir(checkpoint):
        raise CheckpointNotFound(f"{checkpoint}: no such folder; name the one with the checkpoint's weights")
    target = checkpoint / ROLES_FILE
    if os.path.exists(target) and not force:
        raise CheckpointError(f"{target}: exists already; use --force to replace it")
    write_json(target, _roles(read_constants(constants)), CheckpointError)
    return target


def read_constants(path: Path) -> dict[str, str]:
    """The three prompts and three tokens by their published names.

    Prompts stay `str.format` templates: one `{}` for the question, doubled braces elsewhere.

    Raises:
        InvalidRoles: the file cannot be read, or a constant is missing or malformed (naming it and its line).
    """
    tree = _parse(path)
    assignments = list(_assignments(tree))
    _refuse_other_bindings(tree, [assignment for _, assignment in assignments], path)
    texts: dict[str, str] = {}
    for name, assignment in assignments:
        texts[name] = _constant(name, assignment, texts, path)
    if missing := sorted(_WANTED - texts.keys()):
        raise InvalidRoles(f"{path}: has no {', '.join(missing)}; is it the publisher's constants.py?")
    return texts


def _parse(path: Path) -> ast.Module:
    source = read_text(path, MAX_BYTES, InvalidRoles)
    try:
        # A stray backslash in the user's file is no business of ours, so its warning is not shown.
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(source)
    except SyntaxError as problem:
        raise InvalidRoles(f"{path}, line {problem.lineno}: not Python: {problem.msg}") from problem
    except (RecursionError, MemoryError, ValueError) as problem:
        raise InvalidRoles(f"{path}: too deeply nested to be a file of constants") from problem


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.Assign]]:
    """Every plain `NAME = …` of a wanted name at the top of the file."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]) if name in _WANTED:
                yield name, statement


def _refuse_other_bindings(tree: ast.Module, assignments: list[ast.Assign], path: Path) -> None:
    """A constant bound in any other way (`+=`, in a branch, in a loop) may not be what it looks like."""
    plain = {id(assignment.targets[0]) for assignment in assignments}
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in _WANTED)
    for name in names:
        if not isinstance(name.ctx, ast.Load) and id(name) not in plain:
            raise _invalid(path, name.id, name.lineno, "must be assigned once, plainly, at the top level")


def _constant(name: str, assignment: ast.Assign, known: Mapping[str, str], path: Path) -> str:
    if name in known:
        raise _invalid(path, name, assignment.lineno, "is assigned twice")
    try:
        text = _text(assignment.value, known)
        (_check_prompt if name in _PROMPTS.values() else _check_token)(text)
        text.encode()
    except UnicodeEncodeError as problem:
        raise _invalid(path, name, assignment.lineno, "holds half a character") from problem
    except _NotText as problem:
        raise _invalid(path, name, problem.line or assignment.lineno, str(problem)) from problem
    except RecursionError as problem:
        raise _invalid(path, name, assignment.lineno, "is too deeply nested") from problem
    return text


class _NotText(Exception):
    """Why a syntax tree is not the text it should be, and on which line if that is known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


def _text(node: ast.expr, known: Mapping[str, str]) -> str:
    """The text an expression stands for, if it is made of literals and constants read before."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined([left, right], known)
        case ast.JoinedStr(values=parts):
            return _joined(parts, known)
        case ast.FormattedValue(value=ast.Name(id=name), conversion=-1, format_spec=None) if name in known:
            return known[name]
    raise _NotText(f"must be plain text, but holds {ast.unparse(node)[:60]!r}", node.lineno)


def _joined(parts: list[ast.expr], known: Mapping[str, str]) -> str:
    text = ""
    for part in parts:
        text += _text(part, known)
        if len(text) > MAX_CHARACTERS:
            raise _NotText(f"is longer than {MAX_CHARACTERS} characters")
    return text


def _check_token(text: str) -> None:
    if not text or any(c.isspace() or c in "{}" for c in text):
        raise _NotText(f"must be a token without spaces and braces, not {text[:60]!r}")


def _check_prompt(text: str) -> None:
    try:
        fields = [field for field in string.Formatter().parse(text) if field[1] is not None]
    except ValueError as problem:
        raise _NotText(f"is no template: {problem}") from problem
    if [field[1:] for field in fields] != [("", "", None)]:
        raise _NotText("must have exactly one '{}', the place of the question")


def _invalid(path: Path, name: str, line: int, reason: str) -> InvalidRoles:
    return InvalidRoles(f"{path}, line {line}: {name} {reason}")


def _roles(texts: Mapping[str, str]) -> dict[str, object]:
    return {
        "special_tokens": {token: texts[name] for token, name in _TOKENS.items()},
        "roles": {role: {"prompt": texts[name]} for role, name in _PROMPTS.items()},
    }
