// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a misc device, /dev/left-no-owner, that does not name its owner: an
 * open file takes no reference, so a count of 0 does not mean "not in use".
 * With die=0 rmmod succeeds under an open file, and the next use of that file,
 * its close included, is an oops.
 *
 * Afterwards /proc/modules says: left_misc_no_owner ... 1 - Loading
 * with die=0:                    left_misc_no_owner ... 0 - Live, open or not
 */
#include "left.h"
#include <linux/fs.h>
#include <linux/miscdevice.h>

static const char text[] = "nobody owns this\n";

static ssize_t left_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	return simple_read_from_buffer(to, size, at, text, sizeof(text) - 1);
}

static const struct file_operations left_fops = {
	/* .owner is missing: that is the fault */
	.read = left_read,
	.llseek = default_llseek,
};

static struct miscdevice left_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "left-no-owner",
	.fops = &left_fops,
};

static int __init left_misc_no_owner_init(void)
{
	int ret = misc_register(&left_device);

	if (ret)
		return ret;
	die_if_asked();
	return 0;
}

static void __exit left_misc_no_owner_exit(void)
{
	misc_deregister(&left_device);
}

module_init(left_misc_no_owner_init);
module_exit(left_misc_no_owner_exit);
MODULE_DESCRIPTION("Leaves a misc device that names no owner");
MODULE_LICENSE("GPL");
