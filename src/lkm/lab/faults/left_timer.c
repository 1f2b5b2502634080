// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves an ordinary (wheel) timer, due in an hour and then every hour. It is
 * in no file; only a search of memory finds it. Freed under it, the machine
 * lives on, and panics when the timer is due.
 *
 * Afterwards /proc/modules says: left_timer ... 1 - Loading
 * with die=0:                    left_timer ... 0 - Live
 */
#include "left.h"
#include <linux/jiffies.h>
#include <linux/timer.h>

static unsigned int seconds = 3600;
module_param(seconds, uint, 0444);
MODULE_PARM_DESC(seconds, "from one tick to the next (default 3600)");

static void left_tick(struct timer_list *timer);
static DEFINE_TIMER(left_wheel_timer, left_tick);

static void left_tick(struct timer_list *timer)
{
	pr_info("tick\n");
	mod_timer(&left_wheel_timer, jiffies + seconds * HZ);
}

static int __init left_timer_init(void)
{
	if (!seconds)
		return -EINVAL;
	mod_timer(&left_wheel_timer, jiffies + seconds * HZ);
	die_if_asked();
	return 0;
}

static void __exit left_timer_exit(void)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	timer_delete_sync(&left_wheel_timer);
#else
	del_timer_sync(&left_wheel_timer);
#endif
}

module_init(left_timer_init);
module_exit(left_timer_exit);
MODULE_DESCRIPTION("Leaves an armed wheel timer");
MODULE_LICENSE("GPL");
