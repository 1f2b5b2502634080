// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a file system type, leftfs, with its owner set: each mount holds a
 * reference, each open file on it one more. A mount has one file, `left`.
 * Once the module is freed, a look at /proc/filesystems is an oops, and so is a
 * mount of any type that stands behind it in the list.
 *
 * Afterwards /proc/modules says: left_fs ... 1 - Loading
 * with die=0:                    left_fs ... 0 - Live (plus one a mount)
 */
#include "left.h"
#include <linux/fs.h>
#include <linux/fs_context.h>

static const char text[] = "left file system\n";

static ssize_t left_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	return simple_read_from_buffer(to, size, at, text, sizeof(text) - 1);
}

static const struct file_operations left_fops = {
	.owner = THIS_MODULE,
	.read = left_read,
	.llseek = default_llseek,
};

static int left_fill_super(struct super_block *sb, struct fs_context *fc)
{
	/* the index is the inode number: 1 is the root */
	static const struct tree_descr files[] = {
		[2] = { "left", &left_fops, 0444 },
		[3] = { "" },
	};

	return simple_fill_super(sb, 0x1ef7f5, files);
}

static int left_get_tree(struct fs_context *fc)
{
	return get_tree_nodev(fc, left_fill_super);
}

static const struct fs_context_operations left_context_ops = {
	.get_tree = left_get_tree,
};

static int left_init_fs_context(struct fs_context *fc)
{
	fc->ops = &left_context_ops;
	return 0;
}

static struct file_system_type left_type = {
	.owner = THIS_MODULE,
	.name = "leftfs",
	.init_fs_context = left_init_fs_context,
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
	.kill_sb = kill_anon_super,
#else
	.kill_sb = kill_litter_super,
#endif
};

static int __init left_fs_init(void)
{
	int ret = register_filesystem(&left_type);

	if (ret)
		return ret;
	die_if_asked();
	return 0;
}

static void __exit left_fs_exit(void)
{
	unregister_filesystem(&left_type);
}

module_init(left_fs_init);
module_exit(left_fs_exit);
MODULE_DESCRIPTION("Leaves a file system type");
MODULE_LICENSE("GPL");
