// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Exit waits for a completion that nobody gives. rmmod hangs in D state, and no
 * signal ends it. While that task lives nothing may free the module: it would
 * return into freed text. What it waits for can be given:
 *   echo 1 > /sys/module/exit_block/parameters/release
 * (The file stays while exit runs.) Given at the load, exit does not block.
 *
 * After the load /proc/modules says: exit_block ... 0 - Live
 * After the rmmod:                   exit_block ... -1 - Unloading
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

static int __init exit_block_init(void)
{
	pr_info("loaded\n");
	return 0;
}

static void __exit exit_block_exit(void)
{
	pr_info("exit begins\n");
	wait_for_completion(&released);
	pr_info("exit ends\n");
}

module_init(exit_block_init);
module_exit(exit_block_exit);
MODULE_DESCRIPTION("Stuck on removal: exit waits for ever");
MODULE_LICENSE("GPL");
