# SPDX-License-Identifier: MIT
"""A loadable module of a relocatable object: what the kernel's modpost and its last link add, from a sibling."""
