# SPDX-License-Identifier: MIT
"""Snapshot → findings. Pure functions: why will a module not unload, who holds it, what is sound."""
