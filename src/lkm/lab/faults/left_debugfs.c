// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a directory left_debugfs with a file `entry` in debugfs, which has to
 * be mounted to see it. The file has its owner set. Once the module is freed,
 * the first open of it is an oops.
 *
 * Afterwards /proc/modules says: left_debugfs ... 1 - Loading
 * with die=0:                    left_debugfs ... 0 - Live (plus one an open file)
 */
#include "left.h"
#include <linux/debugfs.h>
#include <linux/fs.h>

static const char text[] = "left debugfs entry\n";
static struct dentry *left_dir;

static ssize_t left_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	return simple_read_from_buffer(to, size, at, text, sizeof(text) - 1);
}

static const struct file_operations left_fops = {
	.owner = THIS_MODULE,
	.read = left_read,
	.llseek = default_llseek,
};

static int __init left_debugfs_init(void)
{
	/* debugfs wants no checks: every call takes an error for a directory */
	left_dir = debugfs_create_dir("left_debugfs", NULL);
	debugfs_create_file("entry", 0444, left_dir, NULL, &left_fops);
	die_if_asked();
	return 0;
}

static void __exit left_debugfs_exit(void)
{
	debugfs_remove_recursive(left_dir);
}

module_init(left_debugfs_init);
module_exit(left_debugfs_exit);
MODULE_DESCRIPTION("Leaves a file in debugfs");
MODULE_LICENSE("GPL");
