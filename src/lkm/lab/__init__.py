# SPDX-License-Identifier: MIT
"""Virtual machines with real kernels. Imports nothing of rescue or diagnosis."""
