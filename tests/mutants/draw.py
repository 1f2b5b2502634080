# SPDX-License-Identifier: MIT
"""A list of mutants from a seed: each mutation alone, then pairs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

from tests.mutants.editor import Editor
from tests.mutants.mutations import MUTATIONS, TABLES, Scene

ALONE = 3
"""How often each mutation is drawn alone, each time on another module."""
OFTEN = {"parameters": 12}
SPARED = 0.6
"""Which part of the pairs has no change of the file's tables, which hide everything behind them."""


class Mutant(NamedTuple):
    """One file to be loaded. `id` names the module and the mutations."""

    id: str
    data: bytes
    parameters: str = ""


def draw_mutants(seed: int, modules: Mapping[str, bytes], scene: Scene, count: int) -> list[Mutant]:
    """`count` mutants of these modules. The same seed, modules and scene give the same list."""
    rng = random.Random(seed)
    names = sorted(modules)
    made: list[Mutant] = []
    for name in MUTATIONS:
        tries = rng.sample(names, len(names))
        alone = [
            mutant
            for mutant in (
                _mutant(rng, modules, base, (name,), scene) for base in (tries * 4)[: OFTEN.get(name, ALONE)]
            )
            if mutant
        ]
        made += alone or [m for m in (_mutant(rng, modules, base, (name,), scene) for base in tries) if m][:1]
    attempts = 0
    while len(made) < count and attempts < 20 * count:
        attempts += 1
        deep = rng.random() < SPARED
        first, second = rng.sample(sorted(set(MUTATIONS) - TABLES if deep else MUTATIONS), 2)
        if first in TABLES:
            first, second = second, first
        mutant = _mutant(rng, modules, rng.choice(names), (first, second), scene)
        if mutant:
            made.append(mutant)
    return [mutant._replace(id=f"{number:03}-{mutant.id}") for number, mutant in enumerate(made)]


def _mutant(
    rng: random.Random, modules: Mapping[str, bytes], base: str, names: tuple[str, ...], scene: Scene
) -> Mutant | None:
    """One mutant, or None where the module or the kernel gives no occasion for it."""
    editor = Editor(modules[base])
    for name in names:
        if not editor.sound() or editor.tail:
            return None
        try:
            if not MUTATIONS[name](editor, rng, scene):
                return None
        except (LookupError, ValueError):
            return None  # what it would change is gone
    return Mutant(f"{base}-{'+'.join(names)}", editor.result(), editor.parameters)
