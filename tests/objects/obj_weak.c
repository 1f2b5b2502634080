// SPDX-License-Identifier: GPL-2.0-or-later
/* Weak imports: of a symbol that nobody has, and of one that the kernel has. */
#include "objects.h"

extern int obj_nobody_has_this(int value) __weak;
extern unsigned long get_seconds_of_nobody __weak;
extern typeof(jiffies) jiffies __weak;

static int __init obj_weak_init(void)
{
	pr_info("%d %d %lu\n", obj_nobody_has_this ? obj_nobody_has_this(1) : 0,
		&get_seconds_of_nobody != NULL, jiffies);
	return 0;
}

static void __exit obj_weak_exit(void)
{
}

module_init(obj_weak_init);
module_exit(obj_weak_exit);
MODULE_DESCRIPTION("Weak imports");
MODULE_LICENSE("GPL");
