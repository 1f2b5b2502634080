// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The module is sound, but a function that it runs asynchronously dies in an
 * oops. Its entry never leaves the kernel's list, so async_synchronize_full()
 * waits for ever: at the end of every later load, and in the next rmmod of
 * anything. No edit of a module repairs that, and a clean power-off hangs too.
 *
 * It is scheduled half a second after init, so that this load still ends. With
 * delay=0 init schedules it, and the load hangs: then the count stays at 1.
 *
 * Afterwards /proc/modules says: async_dead ... 0 - Live
 * After an rmmod, which hangs:   async_dead ... -1 - Unloading
 */
#include "faults.h"
#include <linux/async.h>
#include <linux/jiffies.h>
#include <linux/workqueue.h>

static unsigned int delay = 500;
module_param(delay, uint, 0444);
MODULE_PARM_DESC(delay, "milliseconds from init to the fault (default 500)");

static void dead_async(void *data, async_cookie_t cookie)
{
	oops_here();
}

static void schedule_it(struct work_struct *work)
{
	async_schedule(dead_async, NULL);
}
static DECLARE_DELAYED_WORK(later, schedule_it);

static int __init async_dead_init(void)
{
	if (delay)
		schedule_delayed_work(&later, msecs_to_jiffies(delay));
	else
		async_schedule(dead_async, NULL);
	return 0;
}

static void __exit async_dead_exit(void)
{
	cancel_delayed_work_sync(&later);
}

module_init(async_dead_init);
module_exit(async_dead_exit);
MODULE_DESCRIPTION("Stuck on removal: an asynchronous function died");
MODULE_LICENSE("GPL");
