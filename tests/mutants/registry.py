# SPDX-License-Identifier: MIT
"""Where mutations are registered, and what they know of the machine."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from lkm.preflight.kernel import Target
from tests.mutants.editor import Editor

FORBIDDEN = "lkm_forbidden"
"""The name in module_blacklist= of the guests."""


class Scene(NamedTuple):
    """What the machine is like that the mutants are made for.

    loaded     a module that is loaded and exports `exported`
    free       a module that is not loaded, and a symbol of it
    sysfs      a name in /sys/module that is no loaded module
    """

    target: Target
    loaded: str
    exported: str
    free: str
    sysfs: str


Mutation = Callable[[Editor, random.Random, Scene], bool]
MUTATIONS: dict[str, Mutation] = {}
TABLES: set[str] = set()
"""Those after which nothing else can be changed."""


def mutation(name: str, *, tables: bool = False) -> Callable[[Mutation], Mutation]:
    def register(function: Mutation) -> Mutation:
        MUTATIONS[name] = function
        if tables:
            TABLES.add(name)
        return function

    return register
