// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A misc device, /dev/holdme, to hold the module with: each open file takes a
 * reference (its owner is set) and keeps a count of its own, in the parameter
 * `open_files`. Meant for die=0, where open files are all that is in the way.
 *
 * With die=0 /proc/modules says: left_holder ... 0 - Live (plus one an open file)
 * Else:                          left_holder ... 1 - Loading (plus one an open file)
 */
#include "left.h"
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>

static atomic_t open_files = ATOMIC_INIT(0);

static int get_open_files(char *to, const struct kernel_param *kp)
{
	return sprintf(to, "%d\n", atomic_read(&open_files));
}

static const struct kernel_param_ops open_files_ops = { .get = get_open_files };
module_param_cb(open_files, &open_files_ops, NULL, 0444);
MODULE_PARM_DESC(open_files, "how many files are open now");

static int holder_open(struct inode *inode, struct file *file)
{
	atomic_inc(&open_files);
	return 0;
}

static int holder_release(struct inode *inode, struct file *file)
{
	atomic_dec(&open_files);
	return 0;
}

static const struct file_operations holder_fops = {
	.owner = THIS_MODULE,
	.open = holder_open,
	.release = holder_release,
	.llseek = noop_llseek,
};

static struct miscdevice holder_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "holdme",
	.fops = &holder_fops,
};

static int __init left_holder_init(void)
{
	int ret = misc_register(&holder_device);

	if (ret)
		return ret;
	die_if_asked();
	return 0;
}

static void __exit left_holder_exit(void)
{
	misc_deregister(&holder_device);
}

module_init(left_holder_init);
module_exit(left_holder_exit);
MODULE_DESCRIPTION("A device whose open files hold the module");
MODULE_LICENSE("GPL");
