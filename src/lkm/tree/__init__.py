# SPDX-License-Identifier: MIT
"""What is on disk under lib/modules/RELEASE and in modprobe.d: look-up, dependencies, configuration, depmod.

Nothing here imports `typing`, `enum` or `re` at run time, nor what does: `modprobe` is started by the kernel for
each module that it asks for, and the three cost more than the rest of such a start.
"""
