"""Changes one operator, constant or condition at a time and counts which changes the tests notice.

``python scripts/mutation.py [--most N] [MODULE...]``: for each module of `TARGETS` (all of them, or those whose names hold
one of the arguments) a line of the table in docs/mutation.md, and below it the changes that no test noticed. ``--most`` takes
N changes of each module, drawn by a fixed seed. Everything is imported once; each change is tried in a fork, in which the
functions' code is exchanged.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import io
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = [f"tests/evaluation/results/test_{name}.py" for name in ("statistics", "tables", "figures", "summary")]
TARGETS = {
    "detour.evaluation.results.statistics": RESULTS[:1],
    "detour.evaluation.results.student": RESULTS[:1],
    "detour.evaluation.results.tables": [RESULTS[1], RESULTS[3]],
    "detour.evaluation.results.figures": RESULTS[2:],
    "detour.evaluation.metrics": ["tests/evaluation/test_metrics.py"],
    "detour.report.metrics_log": ["tests/report/test_figures.py", "tests/report/test_report.py"],
    "detour.data.packing": ["tests/data/test_packing.py"],
    "detour.schedule": ["tests/test_schedule.py"],
    "detour.phases": ["tests/test_phases.py"],
}
FAILED = 77  # the exit code where the script itself does not work
SECONDS = 60  # for one test, after which a change counts as noticed: it made a loop endless
COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "sum": "len"}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What a node may be changed to."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        yield ast.Compare(node.left, [COMPARISONS[type(node.ops[0])]()], node.comparators)
        if isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
            yield ast.Compare(node.comparators[0], node.ops, [node.left])
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1 if isinstance(node.value, int) else node.value * 2 or 1.0)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
        yield ast.Call(ast.Name(NAMES[node.func.id], ast.Load()), node.args, node.keywords)


def mutants(source: str) -> Iterator[tuple[str, ast.Module]]:
    """(line and change, tree) of each change of a module; annotations and default values of dataclasses stay."""
    tree = ast.parse(source)
    kept = {id(n) for node in ast.walk(tree) for n in _untouched(node)}
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in kept:
            continue
        for number in range(sum(1 for _ in changes(node))):
            whole = copy.deepcopy(tree)
            target = list(ast.walk(whole))[place]
            new = list(changes(target))[number]
            told = f"{node.lineno}: {ast.unparse(target)[:70]}  ->  {ast.unparse(new)[:70]}"  # type: ignore[attr-defined]
            yield told, ast.fix_missing_locations(_Exchange(target, new).visit(whole))


def _untouched(node: ast.AST) -> Iterator[ast.AST]:
    parts: list[ast.AST | None] = []
    if isinstance(node, ast.AnnAssign | ast.arg):
        parts.append(node.annotation)
    if isinstance(node, ast.FunctionDef):
        parts += [node.returns, *node.decorator_list]
    if isinstance(node, ast.ClassDef):
        parts += [*node.decorator_list, *(item for item in node.body if isinstance(item, ast.AnnAssign))]
    for part in parts:
        yield from () if part is None else ast.walk(part)


class _Exchange(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return ast.copy_location(self.new, node) if node is self.old else self.generic_visit(node)


def install(module: ModuleType, tree: ast.Module) -> bool:
    """Puts the changed code into the functions that others have imported already, and the changed constants beside them.

    Returns:
        Whether the changed module can be imported at all.
    """
    changed = ModuleType(module.__name__)
    changed.__file__ = module.__file__
    try:
        exec(compile(tree, str(module.__file__), "exec"), vars(changed))
    except Exception:
        return False
    _exchange(vars(module), vars(changed), module.__name__)
    return True


def _exchange(old: dict[str, Any], new: dict[str, Any], name: str) -> None:
    for key, value in new.items():
        before = old.get(key)
        value, before = getattr(value, "fget", value), getattr(before, "fget", before)
        if isinstance(before, FunctionType) and isinstance(value, FunctionType) and before.__module__ == name:
            before.__code__, before.__defaults__, before.__kwdefaults__ = (
                value.__code__,
                value.__defaults__,
                value.__kwdefaults__,
            )
        elif isinstance(value, type) and value.__module__ == name:
            _exchange(dict(vars(before)), dict(vars(value)), name)  # type: ignore[arg-type]
        elif key.isupper() or key.lstrip("_").isupper():
            old[key] = value


def outcome(module: ModuleType, tree: ast.Module | None, tests: list[str]) -> int:
    """The exit code of pytest in a fork, with the change in it."""
    child = os.fork()
    if child == 0:
        code = FAILED
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            if tree is not None and not install(module, tree):
                os._exit(1)  # an import of it fails: that is noticed
            options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "--hypothesis-profile=ci", f"--timeout={SECONDS}"]
            code = int(pytest.main([*options, *tests]))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    """Runs the modules that are asked for; 1 if a module's tests fail without a change."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("modules", nargs="*")
    arguments.add_argument("--most", type=int, default=10**9)
    given = arguments.parse_args()
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    chosen = {m: t for m, t in TARGETS.items() if not given.modules or any(name in m for name in given.modules)}
    for name, tests in chosen.items():
        with contextlib.redirect_stdout(io.StringIO()):
            pytest.main(["--collect-only", "-qq", "-n0", "-p", "no:cacheprovider", *tests])  # imports everything needed
        module = importlib.import_module(name)
        if code := outcome(module, None, tests):
            print(f"{name}: its tests fail without a change (exit code {code})")
            return 1
        found = list(mutants(Path(str(module.__file__)).read_text(encoding="utf-8")))
        found = sorted(
            random.Random(0).sample(found, min(given.most, len(found))), key=lambda f: int(f[0].split(":")[0])
        )
        codes = [outcome(module, tree, tests) for _, tree in found]
        if FAILED in codes:
            print(f"{name}: a change cannot be put in place: {found[codes.index(FAILED)][0]}")
            return 1
        lived = [told for (told, _), code in zip(found, codes, strict=True) if code == 0]
        print(f"| `{name}` | {len(found)} | {len(found) - len(lived)} | {len(lived)} |", flush=True)
        for told in lived:
            print(f"    line {told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
