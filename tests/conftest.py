# SPDX-License-Identifier: MIT
"""What all tests share."""
