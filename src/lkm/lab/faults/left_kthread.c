// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a kernel thread, left-kthread, that runs in the module's text: its
 * stack in /proc/PID/stack shows a frame [left_kthread]. It holds no reference.
 * Freed under it, it wakes up within a second and dies in an oops.
 *
 * Afterwards /proc/modules says: left_kthread ... 1 - Loading
 * with die=0:                    left_kthread ... 0 - Live
 */
#include "left.h"
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>

static struct task_struct *left_thread;

static int left_run(void *unused)
{
	while (!kthread_should_stop())
		msleep_interruptible(1000);
	return 0;
}

static int __init left_kthread_init(void)
{
	left_thread = kthread_run(left_run, NULL, "left-kthread");
	if (IS_ERR(left_thread))
		return PTR_ERR(left_thread);
	die_if_asked();
	return 0;
}

static void __exit left_kthread_exit(void)
{
	kthread_stop(left_thread);
}

module_init(left_kthread_init);
module_exit(left_kthread_exit);
MODULE_DESCRIPTION("Leaves a kernel thread in the module's text");
MODULE_LICENSE("GPL");
