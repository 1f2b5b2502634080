// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a delayed work, due in an hour. Until then it is a wheel timer inside
 * the module's data, and in no file. Freed under it, the machine lives on, and
 * panics when the timer is due.
 *
 * Afterwards /proc/modules says: left_workqueue ... 1 - Loading
 * with die=0:                    left_workqueue ... 0 - Live
 */
#include "left.h"
#include <linux/jiffies.h>
#include <linux/workqueue.h>

static unsigned int seconds = 3600;
module_param(seconds, uint, 0444);
MODULE_PARM_DESC(seconds, "from one run to the next (default 3600)");

static void left_run(struct work_struct *work);
static DECLARE_DELAYED_WORK(left_work, left_run);

static void left_run(struct work_struct *work)
{
	pr_info("run\n");
	schedule_delayed_work(&left_work, seconds * HZ);
}

static int __init left_workqueue_init(void)
{
	if (!seconds)
		return -EINVAL;
	schedule_delayed_work(&left_work, seconds * HZ);
	die_if_asked();
	return 0;
}

static void __exit left_workqueue_exit(void)
{
	cancel_delayed_work_sync(&left_work);
}

module_init(left_workqueue_init);
module_exit(left_workqueue_exit);
MODULE_DESCRIPTION("Leaves a delayed work");
MODULE_LICENSE("GPL");
