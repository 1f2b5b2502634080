# SPDX-License-Identifier: MIT
"""Making `modules.dep` and its like: search, read, resolve, render, write.

search   directories → which file stands for which module
elf      a module's bytes → what it exports, needs, and says of itself
read     all modules, on all processors
resolve  names → who depends on whom
render   → the content of each file
write    each file whole, or not at all
cache    what was read, for the next run
run      the way from a request to the files
"""
