"""Command groups that refuse a command of an earlier draft by naming the command that does its work now."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

MOVED = {"scores": "eval scores", "tasks": "eval tasks", "tokenizer": "data tokenizer train"}


class Commands(TyperGroup):
    """The top-level commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in MOVED and args[0] not in self.commands:
            ctx.fail(f"'detour {args[0]}' is now 'detour {MOVED[args[0]]}'.")
        return super().resolve_command(ctx, args)


class EvalCommands(TyperGroup):
    """The commands of ``detour eval``, which itself was a command once."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            ctx.fail(f"No such command '{args[0]}'. To fine-tune models: 'detour eval run {args[0]} ...'.")
        return super().resolve_command(ctx, args)


class TokenizerCommands(TyperGroup):
    """The commands of ``detour data tokenizer``, which itself was a command once."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            ctx.fail(f"No such command '{args[0]}'. To train one: 'detour data tokenizer train {args[0]} ...'.")
        return super().resolve_command(ctx, args)


def group(name: str, help: str, cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """An empty group of commands."""
    return typer.Typer(name=name, help=help, cls=cls, no_args_is_help=True)
