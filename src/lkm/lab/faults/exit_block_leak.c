// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two faults, one behind the other: a leaked reference keeps rmmod away from
 * an exit that waits for ever. To repair the count alone, and let the exit run,
 * costs a task in D state. What it waits for can be given:
 *   echo 1 > /sys/module/exit_block_leak/parameters/release
 *
 * After the load /proc/modules says: exit_block_leak ... 1 - Live
 * After rmmod -f:                    exit_block_leak ... 1 - Unloading
 * With the count repaired and rmmod: exit_block_leak ... -1 - Unloading
 */
#include "faults.h"
#include <linux/completion.h>

static DECLARE_COMPLETION(released);
static bool release;

static int set_release(const char *value, const struct kernel_param *kp)
{
	int ret = param_set_bool(value, kp);

	if (!ret && release)
		complete_all(&released);
	return ret;
}

static const struct kernel_param_ops release_ops = {
	.set = set_release,
	.get = param_get_bool,
};
module_param_cb(release, &release_ops, &release, 0644);
MODULE_PARM_DESC(release, "1 lets exit go on");

static int __init exit_block_leak_init(void)
{
	__module_get(THIS_MODULE);
	pr_info("leaked one\n");
	return 0;
}

static void __exit exit_block_leak_exit(void)
{
	pr_info("exit begins\n");
	wait_for_completion(&released);
	pr_info("exit ends\n");
}

module_init(exit_block_leak_init);
module_exit(exit_block_leak_exit);
MODULE_DESCRIPTION("Stuck: a leaked reference, and an exit that waits for ever");
MODULE_LICENSE("GPL");
