"""Imports point downward: ground, operators and networks, utils, methods, scripts."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from conftest import ROOT

GROUND = {"utils.errors", "utils.files", "utils.randomness", "utils.tensors"}
LAYERS = {"operators": 1, "models": 1, "utils": 2, "baselines": 3, "scripts": 5, "studies": 5}


def imports_of(path: Path) -> set[str]:
    """Return the repository's modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules() -> dict[str, Path]:
    """Return the repository's modules, by dotted name."""
    paths = [*ROOT.glob("*.py"), *(p for folder in LAYERS for p in (ROOT / folder).rglob("*.py"))]
    dotted = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths}
    return {name.removesuffix(".__init__"): path for name, path in dotted.items()}


def layer(module: str) -> int:
    """Return how high a module stands; the task scripts stand above the methods."""
    return 0 if module in GROUND else LAYERS.get(module.partition(".")[0], 4)


def test_no_import_points_upward_and_none_goes_in_a_circle():
    found = modules()
    graph = {name: imports_of(path) & found.keys() - {name} for name, path in found.items()}
    upward = [(a, b) for a, imported in graph.items() for b in imported if layer(b) > layer(a)]
    assert not upward
    TopologicalSorter(graph).prepare()  # raises where there is a circle
