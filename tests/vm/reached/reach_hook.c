// SPDX-License-Identifier: GPL-2.0-or-later
/* A hook of netfilter: the kernel has it in an array that it allocates, and init_net points to that. */
#include "reach.h"
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <net/net_namespace.h>

static unsigned int reach_packet(void *unused, struct sk_buff *packet, const struct nf_hook_state *state)
{
	return NF_ACCEPT;
}

static struct nf_hook_ops reach_ops = {
	.hook = reach_packet,
	.pf = NFPROTO_IPV4,
	.hooknum = NF_INET_PRE_ROUTING,
};

static int __init reach_hook_init(void)
{
	int ret = nf_register_net_hook(&init_net, &reach_ops);

	if (ret)
		return ret;
	die_if_asked();
	return 0;
}

static void __exit reach_hook_exit(void)
{
	nf_unregister_net_hook(&init_net, &reach_ops);
}

module_init(reach_hook_init);
module_exit(reach_hook_exit);
MODULE_DESCRIPTION("A hook of netfilter");
MODULE_LICENSE("GPL");
