// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a reboot notifier. It is in no file; once the module is freed, reboot
 * dies in the chain of notifiers with its lock held: the machine has to be
 * ended from outside.
 *
 * Afterwards /proc/modules says: left_notifier ... 1 - Loading
 * with die=0:                    left_notifier ... 0 - Live
 */
#include "left.h"
#include <linux/notifier.h>
#include <linux/reboot.h>

static int left_notify(struct notifier_block *block, unsigned long event, void *data)
{
	pr_info("the machine goes down\n");
	return NOTIFY_DONE;
}

static struct notifier_block left_block = {
	.notifier_call = left_notify,
};

static int __init left_notifier_init(void)
{
	int ret = register_reboot_notifier(&left_block);

	if (ret)
		return ret;
	die_if_asked();
	return 0;
}

static void __exit left_notifier_exit(void)
{
	unregister_reboot_notifier(&left_block);
}

module_init(left_notifier_init);
module_exit(left_notifier_exit);
MODULE_DESCRIPTION("Leaves a reboot notifier");
MODULE_LICENSE("GPL");
