// SPDX-License-Identifier: GPL-2.0-or-later
/* A name with a dash; a function that is built into another section, a table that is read only after init. */
#include <linux/cache.h>
#include <linux/timer.h>

#include "objects.h"

static int table[16] __ro_after_init;
static struct timer_list timer;

static noinline int __cold rarely(int value)
{
	pr_warn("rarely: %d\n", value);
	return value;
}

static void on_timer(struct timer_list *unused)
{
	WARN_ONCE(table[3] != 9, "table is wrong\n");
}

static int __init obj_dash_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(table); i++)
		table[i] = i * i;
	timer_setup(&timer, on_timer, 0);
	mod_timer(&timer, jiffies + 1);
	return table[2] == 5 ? rarely(-EINVAL) : 0;
}

static void __exit obj_dash_exit(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	timer_delete_sync(&timer);
#else
	del_timer_sync(&timer);
#endif
}

module_init(obj_dash_init);
module_exit(obj_dash_exit);
MODULE_DESCRIPTION("A dash in the name, a timer, data that is read only after init");
MODULE_LICENSE("GPL");
