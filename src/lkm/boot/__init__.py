# SPDX-License-Identifier: MIT
"""Built-in code and the boot: initcalls, the messages of a boot, the life of a module."""
