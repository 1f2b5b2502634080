// SPDX-License-Identifier: GPL-2.0-or-later
/* Trace events, a key of its own and one of the kernel's: the kernel takes away all that it keeps of them. */
#include "reach.h"
#include <linux/jump_label.h>
#include <linux/netdevice.h>
#include <linux/tracepoint.h>

#define CREATE_TRACE_POINTS
#include "reach_trace.h"

static DEFINE_STATIC_KEY_FALSE(reach_key);

static int __init reach_events_init(void)
{
	trace_reach_begun(1);
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
