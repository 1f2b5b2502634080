# SPDX-License-Identifier: MIT
"""Would it load? Checks in the kernel's own order, on values; what the kernel would answer, and why."""
