// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves /proc/left_entry and /proc/left_dir/entry. The operations lie in the
 * module: once it is freed, the first open of either is an oops, on 5.10 even
 * the first look-up. An open file takes no reference on the module: procfs
 * itself waits for calls in progress when an entry is removed.
 *
 * Afterwards /proc/modules says: left_proc ... 1 - Loading
 * with die=0:                    left_proc ... 0 - Live
 */
#include "left.h"
#include <linux/fs.h>
#include <linux/proc_fs.h>

static const char text[] = "left proc entry\n";

static ssize_t left_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	return simple_read_from_buffer(to, size, at, text, sizeof(text) - 1);
}

static const struct proc_ops left_ops = {
	.proc_read = left_read,
	.proc_lseek = default_llseek,
};

static int __init left_proc_init(void)
{
	struct proc_dir_entry *dir;

	if (!proc_create("left_entry", 0444, NULL, &left_ops))
		return -ENOMEM;
	dir = proc_mkdir("left_dir", NULL);
	if (!dir || !proc_create("entry", 0444, dir, &left_ops)) {
		remove_proc_subtree("left_dir", NULL);
		remove_proc_entry("left_entry", NULL);
		return -ENOMEM;
	}
	die_if_asked();
	return 0;
}

static void __exit left_proc_exit(void)
{
	remove_proc_subtree("left_dir", NULL);
	remove_proc_entry("left_entry", NULL);
}

module_init(left_proc_init);
module_exit(left_proc_exit);
MODULE_DESCRIPTION("Leaves entries in /proc");
MODULE_LICENSE("GPL");
