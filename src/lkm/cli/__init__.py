# SPDX-License-Identifier: MIT
"""The command line: values → text and JSON, one file a command. Only this package prints and exits."""
