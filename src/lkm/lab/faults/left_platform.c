// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a platform driver, left-plat, and a device of that name bound to it.
 * Bound devices hold no reference: /sys/bus/platform/drivers/left-plat tells.
 * Once the module is freed, to read the device's uevent or unbind it is an oops.
 *
 * Afterwards /proc/modules says: left_platform ... 1 - Loading
 * with die=0:                    left_platform ... 0 - Live, bound or not
 */
#include "left.h"
#include <linux/err.h>
#include <linux/platform_device.h>

static struct platform_device *left_device;

static int left_probe(struct platform_device *pdev)
{
	dev_info(&pdev->dev, "bound\n");
	return 0;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
static void left_remove(struct platform_device *pdev)
{
	dev_info(&pdev->dev, "unbound\n");
}
#else
static int left_remove(struct platform_device *pdev)
{
	dev_info(&pdev->dev, "unbound\n");
	return 0;
}
#endif

static struct platform_driver left_driver = {
	.probe = left_probe,
	.remove = left_remove,
	.driver = { .name = "left-plat" },
};

static int __init left_platform_init(void)
{
	int ret = platform_driver_register(&left_driver);

	if (ret)
		return ret;
	left_device = platform_device_register_simple("left-plat", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(left_device)) {
		platform_driver_unregister(&left_driver);
		return PTR_ERR(left_device);
	}
	die_if_asked();
	return 0;
}

static void __exit left_platform_exit(void)
{
	platform_device_unregister(left_device);
	platform_driver_unregister(&left_driver);
}

module_init(left_platform_init);
module_exit(left_platform_exit);
MODULE_DESCRIPTION("Leaves a platform driver with a bound device");
MODULE_LICENSE("GPL");
