# SPDX-License-Identifier: MIT
"""The classic tools: lsmod, insmod, rmmod, modinfo, modprobe, depmod, kmod; one file a tool."""
