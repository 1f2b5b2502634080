# SPDX-License-Identifier: MIT
"""The faults of `lkm/lab/faults`, assembled by lkm itself: for kernels whose headers nobody has.

No compiler, no headers. A fault is written in a small language (`language`), code comes from a generator for each
architecture (`x86_64`, `arm64`), offsets from the kernel's BTF, and what ties a module to a kernel from the
kernel's own modules (`target`). `assemble` makes the file.
"""
