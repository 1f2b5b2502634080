# SPDX-License-Identifier: MIT
"""Findings → plan → edits → proof. The dangerous part, alone in its folder; only `execute` loads a helper."""
