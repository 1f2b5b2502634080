# SPDX-License-Identifier: MIT
"""Modules made wrong on purpose, by mutation of real ones, from a seed."""
