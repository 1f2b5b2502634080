// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a character device: a major number in /proc/devices (leftchr) and a
 * cdev with its owner set. An open file holds two references, for the cdev and
 * its operations each name the owner. There is no class, so no node in /dev:
 * make one with mknod. With block=1 a read sleeps in this module's text until a
 * signal comes or block is set to 0.
 *
 * Afterwards /proc/modules says: left_chrdev ... 1 - Loading
 * with die=0:                    left_chrdev ... 0 - Live (plus two an open file)
 */
#include "left.h"
#include <linux/cdev.h>
#include <linux/delay.h>
#include <linux/fs.h>

static bool block;
module_param(block, bool, 0644);
MODULE_PARM_DESC(block, "1: reads sleep until a signal (default 0)");

static const char text[] = "left character device\n";
static struct cdev left_cdev;
static dev_t left_number;

static ssize_t left_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	while (READ_ONCE(block))
		if (msleep_interruptible(200))
			return -ERESTARTSYS;
	return simple_read_from_buffer(to, size, at, text, sizeof(text) - 1);
}

static const struct file_operations left_fops = {
	.owner = THIS_MODULE,
	.read = left_read,
	.llseek = default_llseek,
};

static int __init left_chrdev_init(void)
{
	int ret = alloc_chrdev_region(&left_number, 0, 1, "leftchr");

	if (ret)
		return ret;
	cdev_init(&left_cdev, &left_fops);
	left_cdev.owner = THIS_MODULE;
	ret = cdev_add(&left_cdev, left_number, 1);
	if (ret) {
		unregister_chrdev_region(left_number, 1);
		return ret;
	}
	die_if_asked();
	return 0;
}

static void __exit left_chrdev_exit(void)
{
	cdev_del(&left_cdev);
	unregister_chrdev_region(left_number, 1);
}

module_init(left_chrdev_init);
module_exit(left_chrdev_exit);
MODULE_DESCRIPTION("Leaves a character device");
MODULE_LICENSE("GPL");
