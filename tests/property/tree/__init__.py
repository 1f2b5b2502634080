# SPDX-License-Identifier: MIT
"""Generated trees of modules and configurations: lkm's tools say and do what kmod's do."""
