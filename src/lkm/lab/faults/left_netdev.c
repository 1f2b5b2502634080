// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a network device, left0, that drops every packet. Network devices hold
 * no reference on their driver: it can be up and the count still 0. Once the
 * module is freed, a look at /proc/net/dev is an oops; to set the device up is
 * one that keeps rtnl, and no network device can be configured any more.
 *
 * Afterwards /proc/modules says: left_netdev ... 1 - Loading
 * with die=0:                    left_netdev ... 0 - Live, up or down
 */
#include "left.h"
#include <linux/etherdevice.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>

static struct net_device *left_device;

static netdev_tx_t left_xmit(struct sk_buff *skb, struct net_device *dev)
{
	dev_kfree_skb(skb);
	return NETDEV_TX_OK;
}

static const struct net_device_ops left_ops = {
	.ndo_start_xmit = left_xmit,
};

static void left_setup(struct net_device *dev)
{
	ether_setup(dev);
	dev->netdev_ops = &left_ops;
	dev->flags |= IFF_NOARP;
	eth_hw_addr_random(dev);
}

static int __init left_netdev_init(void)
{
	int ret;

	left_device = alloc_netdev(0, "left%d", NET_NAME_ENUM, left_setup);
	if (!left_device)
		return -ENOMEM;
	ret = register_netdev(left_device);
	if (ret) {
		free_netdev(left_device);
		return ret;
	}
	die_if_asked();
	return 0;
}

static void __exit left_netdev_exit(void)
{
	unregister_netdev(left_device);
	free_netdev(left_device);
}

module_init(left_netdev_init);
module_exit(left_netdev_exit);
MODULE_DESCRIPTION("Leaves a network device");
MODULE_LICENSE("GPL");
