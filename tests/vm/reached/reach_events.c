// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Trace events, keys of its own and of the kernel's, a function that must not be probed, a work that is done: the
 * kernel takes away all that it keeps of them.
 */
#include "reach.h"
#include <linux/jump_label.h>
#include <linux/kprobes.h>
#include <linux/workqueue.h>
#include <trace/events/xdp.h>

#define CREATE_TRACE_POINTS
#include "reach_trace.h"

static DEFINE_STATIC_KEY_FALSE(reach_key);

static noinline int reach_unprobed(int number)
{
	return number + 1;
}
NOKPROBE_SYMBOL(reach_unprobed);

static void reach_run(struct work_struct *unused)
{
	trace_reach_begun(reach_unprobed(0));
}

static DECLARE_WORK(reach_work, reach_run);

static int __init reach_events_init(void)
{
	queue_work(system_highpri_wq, &reach_work);
	flush_work(&reach_work);
	trace_xdp_exception(NULL, NULL, 0);
	if (static_branch_unlikely(&reach_key))
		pr_info("the key is on\n");
	pr_debug("begun\n");
	die_if_asked();
	trace_reach_ended(2, "done");
	return 0;
}

static void __exit reach_events_exit(void)
{
	trace_reach_ended(3, "gone");
}

module_init(reach_events_init);
module_exit(reach_events_exit);
MODULE_DESCRIPTION("Trace events");
MODULE_LICENSE("GPL");
