// SPDX-License-Identifier: GPL-2.0-or-later
/* Device tables, of which modpost makes aliases. */
#include <linux/mod_devicetable.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/usb.h>

#include "objects.h"

static const struct pci_device_id pci_table[] = {
	{ PCI_DEVICE(0x1de5, 0xbeef) },
	{ PCI_DEVICE_SUB(0x1de5, 0xbee0, 0x1234, PCI_ANY_ID) },
	{ PCI_DEVICE_CLASS(PCI_CLASS_NETWORK_ETHERNET << 8, 0xffff00) },
	{ }
};
MODULE_DEVICE_TABLE(pci, pci_table);

static const struct platform_device_id platform_table[] = {
	{ "lkm-objects-one", 1 },
	{ "lkm-objects-two", 2 },
	{ }
};
MODULE_DEVICE_TABLE(platform, platform_table);

static const struct of_device_id of_table[] = {
	{ .compatible = "lkm,objects" },
	{ .name = "lkm", .type = "objects", .compatible = "lkm,objects two" },
	{ }
};
MODULE_DEVICE_TABLE(of, of_table);

static const struct usb_device_id usb_table[] = {
	{ .match_flags = USB_DEVICE_ID_MATCH_DEVICE, .idVendor = 0x1de5, .idProduct = 0x0042 },
	{ .match_flags = USB_DEVICE_ID_MATCH_DEVICE_AND_VERSION, .idVendor = 0x1de5, .idProduct = 0x43,
	  .bcdDevice_lo = 0x0101, .bcdDevice_hi = 0x0123 },
	{ .match_flags = USB_DEVICE_ID_MATCH_INT_CLASS | USB_DEVICE_ID_MATCH_INT_SUBCLASS |
	  USB_DEVICE_ID_MATCH_INT_PROTOCOL, .bInterfaceClass = 8, .bInterfaceSubClass = 6,
	  .bInterfaceProtocol = 0x50 },
	{ }
};
MODULE_DEVICE_TABLE(usb, usb_table);

static const struct acpi_device_id acpi_table[] = {
	{ "LKMO0001", 0 },
	{ "", 0 }
};
MODULE_DEVICE_TABLE(acpi, acpi_table);

static int __init obj_devices_init(void)
{
	pr_info("%x %s %x %s %s\n", pci_table[0].vendor, platform_table[0].name, usb_table[0].idVendor,
		of_table[0].compatible, acpi_table[0].id);
	return 0;
}

static void __exit obj_devices_exit(void)
{
}

module_init(obj_devices_init);
module_exit(obj_devices_exit);
MODULE_DESCRIPTION("Device tables");
MODULE_LICENSE("GPL");
