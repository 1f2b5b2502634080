// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Leaves a hash algorithm, left-hash: it stands in /proc/crypto with the name
 * of this module, and its users hold references (an AF_ALG socket, two). It
 * xors bytes; do not hash anything with it. Once the module is freed, every
 * look-up of an algorithm is an oops; so is the load of a signed module.
 *
 * Afterwards /proc/modules says: left_crypto ... 1 - Loading
 * with die=0:                    left_crypto ... 0 - Live (plus what its users hold)
 */
#include "left.h"
#include <crypto/internal/hash.h>

static int left_init(struct shash_desc *desc)
{
	*(u8 *)shash_desc_ctx(desc) = 0;
	return 0;
}

static int left_update(struct shash_desc *desc, const u8 *data, unsigned int size)
{
	u8 *sum = shash_desc_ctx(desc);

	while (size--)
		*sum ^= *data++;
	return 0;
}

static int left_final(struct shash_desc *desc, u8 *out)
{
	*out = *(u8 *)shash_desc_ctx(desc);
	return 0;
}

static struct shash_alg left_alg = {
	.init = left_init,
	.update = left_update,
	.final = left_final,
	.digestsize = 1,
	.descsize = 1,
	.base = {
		.cra_name = "left-hash",
		.cra_driver_name = "left-hash-generic",
		.cra_priority = 1,
		.cra_blocksize = 1,
		.cra_module = THIS_MODULE,
	},
};

static int __init left_crypto_init(void)
{
	int ret = crypto_register_shash(&left_alg);

	if (ret)
		return ret;
	die_if_asked();
	return 0;
}

static void __exit left_crypto_exit(void)
{
	crypto_unregister_shash(&left_alg);
}

module_init(left_crypto_init);
module_exit(left_crypto_exit);
MODULE_DESCRIPTION("Leaves a hash algorithm");
MODULE_LICENSE("GPL");
