#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# First process of a lab guest: file systems, drivers, the kernel's module tree; then the agent takes over.
export PATH=/usr/sbin:/usr/bin
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
exec </dev/null >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for tree in tmpfs:/dev/shm tmpfs:/run tmpfs:/tmp tmpfs:/mnt \
    securityfs:/sys/kernel/security debugfs:/sys/kernel/debug tracefs:/sys/kernel/tracing; do
    mount -t "${tree%%:*}" "${tree%%:*}" "${tree#*:}"
done
for file in /drivers/* /drivers/*; do
    /usr/sbin/insmod "$file" 2>/dev/null
done
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -b /dev/vda ] && break
    sleep 0.1
done
mkdir -p /run/lkm-lab
mount -t ext4 -o ro /dev/vda /run/lkm-lab || echo "lab: no module tree"
mount --bind /run/lkm-lab/lib/modules /lib/modules
mount --bind /run/lkm-lab/boot /boot
hostname lab
ip link set lo up
ulimit -c 0
echo 7 >/proc/sys/kernel/printk
PYTHONPATH=/usr/lib/lkm-lab exec /usr/bin/python3 -sS -m lkm.lab.agent
echo "lab: the agent did not start"
