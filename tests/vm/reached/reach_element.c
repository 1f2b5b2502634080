// SPDX-License-Identifier: GPL-2.0-or-later
/* Elements of a list of the kernel's that the module allocates: that in the middle has others on both sides. */
#include "reach.h"
#include <linux/if_ether.h>
#include <linux/netdevice.h>
#include <linux/slab.h>

static int reach_receive(struct sk_buff *packet, struct net_device *device, struct packet_type *type,
			 struct net_device *original)
{
	kfree_skb(packet);
	return 0;
}

static struct packet_type **reach_types;

static int __init reach_element_init(void)
{
	int index;

	reach_types = kcalloc(3, sizeof(*reach_types), GFP_KERNEL | __GFP_NOFAIL);
	for (index = 0; index < 3; index++) {
		reach_types[index] = kzalloc(sizeof(**reach_types), GFP_KERNEL | __GFP_NOFAIL);
		reach_types[index]->type = htons(0x88b5);
		if (index == 1)
			reach_types[index]->func = reach_receive;
		dev_add_pack(reach_types[index]);
	}
	die_if_asked();
	return 0;
}

static void __exit reach_element_exit(void)
{
	int index;

	for (index = 0; index < 3; index++) {
		dev_remove_pack(reach_types[index]);
		kfree(reach_types[index]);
	}
	kfree(reach_types);
}

module_init(reach_element_init);
module_exit(reach_element_exit);
MODULE_DESCRIPTION("Elements of a list of the kernel's");
MODULE_LICENSE("GPL");
