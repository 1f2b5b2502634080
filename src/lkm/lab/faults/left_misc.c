// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a misc device, /dev/left-over, with its owner set: whoever has it open
 * holds a reference. Once the module is freed, opening *any* misc device walks
 * the list through freed memory, and dies with the lock of that list held.
 *
 * Afterwards /proc/modules says: left_misc ... 1 - Loading
 * with die=0:                    left_misc ... 0 - Live (plus one an open file)
 */
#include "left.h"
#include <linux/fs.h>
#include <linux/miscdevice.h>

static const char text[] = "left over\n";

static ssize_t left_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	return simple_read_from_buffer(to, size, at, text, sizeof(text) - 1);
}

static const struct file_operations left_fops = {
	.owner = THIS_MODULE,
	.read = left_read,
	.llseek = default_llseek,
};

static struct miscdevice left_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "left-over",
	.fops = &left_fops,
};

static int __init left_misc_init(void)
{
	int ret = misc_register(&left_device);

	if (ret)
		return ret;
	die_if_asked();
	return 0;
}

static void __exit left_misc_exit(void)
{
	misc_deregister(&left_device);
}

module_init(left_misc_init);
module_exit(left_misc_exit);
MODULE_DESCRIPTION("Leaves a misc device");
MODULE_LICENSE("GPL");
