"""A small template language, compiled before use.

`[a|b|]` picks one of the alternatives, `{name}` is a value of the context, `{name.form}` is a noun in that form, or a
list of nouns in that form joined with commas and a conjunction. Inside an alternative both may nest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from typing import Any

Rand = Callable[[], float]
Noun = dict[str, str]
Node = list[Any]  # of str, tuple[Node, ...] and Slot

_TOKEN = re.compile(r"[\[\]|]|\{[\w.]+\}")


class Slot:
    """A placeholder for a value of the context."""

    __slots__ = ("form", "name")

    def __init__(self, text: str) -> None:
        self.name, _, self.form = text.partition(".")


def parse(text: str) -> Node:
    """The compiled template.

    Raises:
        ValueError: A bracket is left open or was never opened.
    """
    root: list[Node] = [[]]
    stack, end = [root], 0
    for token in _TOKEN.finditer(text):
        if text[end : token.start()]:
            stack[-1][-1].append(text[end : token.start()])
        end = token.end()
        mark = token.group()
        if mark == "[":
            stack.append([[]])
        elif mark == "|":
            stack[-1].append([])
        elif mark == "]":
            alternatives = stack.pop()
            if not stack:
                raise ValueError(f"']' without '[' in template {text!r}")
            stack[-1][-1].append(tuple(alternatives))
        else:
            stack[-1][-1].append(Slot(mark[1:-1]))
    if len(stack) != 1 or len(root) != 1:
        raise ValueError(f"'[' without ']', or '|' outside brackets, in template {text!r}")
    return [*root[0], text[end:]] if text[end:] else root[0]


def expand(node: Node, context: Mapping[str, Any], rand: Rand, conjunctions: Mapping[str, str]) -> str:
    """Expands a template, with alternatives drawn by ``rand``."""
    out: list[str] = []
    _expand(node, context, rand, conjunctions, out)
    return "".join(out)


def _expand(
    node: Node, context: Mapping[str, Any], rand: Rand, conjunctions: Mapping[str, str], out: list[str]
) -> None:
    for part in node:
        if type(part) is str:
            out.append(part)
        elif type(part) is tuple:
            _expand(part[int(rand() * len(part))], context, rand, conjunctions, out)
        else:
            value, form = context[part.name], part.form
            if not form:
                out.append(value)
            elif type(value) is dict:
                out.append(value[form])
            else:
                out.append(join([noun[form] for noun in value], conjunctions.get(form, conjunctions[""])))


def join(items: Sequence[str], conjunction: str) -> str:
    """'a, b and c'."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + conjunction + items[-1]


def pick(items: Sequence[Any], rand: Rand) -> Any:
    """One item, uniformly. Unlike `random.choice`, the same in every version of Python."""
    return items[int(rand() * len(items))]


def shuffle(items: MutableSequence[Any], rand: Rand) -> None:
    """Shuffles in place."""
    for i in range(len(items) - 1, 0, -1):
        j = int(rand() * (i + 1))
        items[i], items[j] = items[j], items[i]


def sample(items: Sequence[Any], k: int, rand: Rand) -> list[Any]:
    """Up to ``k`` distinct items, in random order."""
    pool = list(items)
    shuffle(pool, rand)
    return pool[:k]


def lines_of(text: str) -> list[str]:
    """The nonempty lines of a text; an indented line continues the one before it."""
    return [line for line in re.sub(r"\n +", " ", text.strip()).splitlines() if line]


class Section:
    """Sentences in order. Each block of the text is one sentence: a header, then its wordings, one per line.

    A header is `## 60 name -name`: the probability of the sentence in percent, the context names that must be set for it,
    and those that must not be. Adjacent sentences marked with `##~` are shuffled.
    """

    def __init__(self, text: str) -> None:
        self._blocks: list[tuple[bool, float, list[str], list[str], tuple[Node, ...]]] = []
        for block in re.split(r"^##", text.strip(), flags=re.M)[1:]:
            header, *wordings = lines_of(block)
            loose = header.startswith("~")
            chance, *names = header.lstrip("~").split()
            needs = [name for name in names if name[0] != "-"]
            bars = [name[1:] for name in names if name[0] == "-"]
            self._blocks.append((loose, int(chance) / 100, needs, bars, tuple(parse(line) for line in wordings)))

    def sentences(self, context: Mapping[str, Any], rand: Rand, conjunctions: Mapping[str, str]) -> list[str]:
        """The sentences of one document, each with its first letter in upper case."""
        out: list[str] = []
        loose: list[str] = []
        for movable, chance, needs, bars, wordings in self._blocks:
            if not movable and loose:
                shuffle(loose, rand)
                out += loose
                loose = []
            if rand() >= chance or not all(context.get(n) for n in needs) or any(context.get(n) for n in bars):
                continue
            text = expand(pick(wordings, rand), context, rand, conjunctions)
            (loose if movable else out).append(text[0].upper() + text[1:])
        shuffle(loose, rand)
        return out + loose
