// SPDX-License-Identifier: GPL-2.0-or-later
/* A family of generic netlink: the kernel has it in an IDR. */
#include "reach.h"
#include <net/genetlink.h>

static int reach_do(struct sk_buff *message, struct genl_info *info)
{
	return 0;
}

static const struct genl_ops reach_operations[] = {
	{
		.cmd = 1,
		.doit = reach_do,
	},
};

static struct genl_family reach_genl = {
	.name = "reach",
	.version = 1,
	.module = THIS_MODULE,
	.ops = reach_operations,
	.n_ops = ARRAY_SIZE(reach_operations),
};

static int __init reach_family_init(void)
{
	int ret = genl_register_family(&reach_genl);

	if (ret)
		return ret;
	die_if_asked();
	return 0;
}

static void __exit reach_family_exit(void)
{
	genl_unregister_family(&reach_genl);
}

module_init(reach_family_init);
module_exit(reach_family_exit);
MODULE_DESCRIPTION("A family of generic netlink");
MODULE_LICENSE("GPL");
