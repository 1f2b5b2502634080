# SPDX-License-Identifier: MIT
"""Virtual machines with real kernels. Imports nothing of rescue, preflight or diagnosis."""
