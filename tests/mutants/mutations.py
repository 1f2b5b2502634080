# SPDX-License-Identifier: MIT
"""The mutations: each makes one fault, or a change that is none, and says whether it could.

A mutation is a function of an editor, a source of chance and a `Scene`; it returns False where the module or the
kernel gives no occasion. None of them makes code run that a sound module would not: relocations are changed only
where the kernel refuses them before anything is written.
"""

from __future__ import annotations

from tests.mutants import contents, fields, tables
from tests.mutants.registry import FORBIDDEN, MUTATIONS, TABLES, Scene

__all__ = ["FORBIDDEN", "MUTATIONS", "TABLES", "Scene", "contents", "fields", "tables"]
