# SPDX-License-Identifier: MIT
"""The tree in the docstring of `lkm.errors` is the tree of the sources."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import lkm
from lkm import errors


def drawn() -> dict[str, str]:
    """Each error of the docstring, with its parent."""
    found: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r" {4}(?P<indent>(?:│   |    )*)(?P<branch>[├└]── )?(?P<name>[A-Z]\w+) ", line)
        if match:
            depth = len(match["indent"]) // 4 + bool(match["branch"])
            path = [*path[:depth], match["name"]]
            found[match["name"]] = path[depth - 1] if depth else "Exception"
    return found


def written() -> dict[str, str]:
    """Each error class of the package, with the first class that it derives from."""
    classes = {
        node.name: node.bases[0].id
        for path in Path(lkm.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.bases and isinstance(node.bases[0], ast.Name)
    }
    found = {"LkmError": "Exception"}
    while more := {name: base for name, base in classes.items() if base in found and name not in found}:
        found.update(more)
    return found


def test_every_error_is_in_the_tree() -> None:
    assert drawn() == written()
