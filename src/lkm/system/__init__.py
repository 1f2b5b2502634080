# SPDX-License-Identifier: MIT
"""The operating system → a Snapshot. The only code that touches /proc, /sys, kcore and system calls."""
