// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a high resolution timer that fires again and again: it stands in
 * /proc/timer_list. To free the module under it kills the machine at once.
 *
 * Afterwards /proc/modules says: left_hrtimer ... 1 - Loading
 * with die=0:                    left_hrtimer ... 0 - Live
 */
#include "left.h"
#include <linux/hrtimer.h>
#include <linux/ktime.h>

static unsigned int period = 1000;
module_param(period, uint, 0444);
MODULE_PARM_DESC(period, "milliseconds from one tick to the next (default 1000)");

static unsigned int ticks;
module_param(ticks, uint, 0444);
MODULE_PARM_DESC(ticks, "how often it fired so far: read only");

static struct hrtimer left_clock;

static enum hrtimer_restart left_hrtimer_tick(struct hrtimer *timer)
{
	ticks++;
	hrtimer_forward_now(timer, ms_to_ktime(period));
	return HRTIMER_RESTART;
}

static int __init left_hrtimer_init(void)
{
	if (!period)
		return -EINVAL;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(&left_clock, left_hrtimer_tick, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
#else
	hrtimer_init(&left_clock, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	left_clock.function = left_hrtimer_tick;
#endif
	hrtimer_start(&left_clock, ms_to_ktime(period), HRTIMER_MODE_REL);
	die_if_asked();
	return 0;
}

static void __exit left_hrtimer_exit(void)
{
	hrtimer_cancel(&left_clock);
}

module_init(left_hrtimer_init);
module_exit(left_hrtimer_exit);
MODULE_DESCRIPTION("Leaves an armed hrtimer");
MODULE_LICENSE("GPL");
