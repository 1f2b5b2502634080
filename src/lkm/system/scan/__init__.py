# SPDX-License-Identifier: MIT
"""The scan: every pointer into a module that lies in the kernel's RAM, and whose it is.

engine → hits; translate → the addresses under which the kernel knows them; attribute → their places;
expected → what the removal itself takes away; objects → what is live.
"""
