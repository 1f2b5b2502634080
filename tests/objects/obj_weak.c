// SPDX-License-Identifier: GPL-2.0-or-later
/* Weak imports: of a symbol that nobody has, and of one that the kernel has. */
#include "objects.h"

extern int obj_nobody_has_this(int value) __weak;
extern unsigned long get_seconds_of_nobody __weak;
extern typeof(jiffies) jiffies __weak;

/* By way of data: code for arm64 would take their addresses from a table that modules do not have. */
static int (*volatile function)(int) = obj_nobody_has_this;
static unsigned long *volatile nothing = &get_seconds_of_nobody;
static typeof(jiffies) *volatile ticks = &jiffies;

static int __init obj_weak_init(void)
{
	int (*call)(int) = function;

	pr_info("%d %d %d\n", call ? call(1) : 0, nothing != NULL, ticks != NULL);
	return 0;
}

static void __exit obj_weak_exit(void)
{
}

module_init(obj_weak_init);
module_exit(obj_weak_exit);
MODULE_DESCRIPTION("Weak imports");
MODULE_LICENSE("GPL");
