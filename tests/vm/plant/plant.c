// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Plants pointers to a function of its own in memory of many kinds, and tells
 * the address of each in the parameter `planted`, a line "KIND ADDRESS" each.
 * Its exit takes all of them away.
 */
#include <linux/completion.h>
#include <linux/gfp.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/utsname.h>
#include <linux/vmalloc.h>

#define SIZES 8

static char planted[2048];
module_param_string(planted, planted, sizeof(planted), 0400);

static void *objects[SIZES];
static void **in_cache, **freed, **in_pages, **in_vmalloc;
static void * __percpu *per_cpu;
static struct kmem_cache *cache;
static struct task_struct *sleeper, *waiter;
static DECLARE_COMPLETION(on_stack);
static DECLARE_COMPLETION(never);
static char before[__NEW_UTS_LEN + 1];

static noinline void plant_target(void)
{
	pr_info("never called\n");
}

static void plant(const char *kind, void *at)
{
	size_t used = strlen(planted);

	WRITE_ONCE(*(void **)at, plant_target);
	scnprintf(planted + used, sizeof(planted) - used, "%s %lx\n", kind, (unsigned long)at);
}

static int sleep_with_a_pointer(void *unused)
{
	void *volatile word = NULL;

	plant("stack", (void *)&word);
	complete(&on_stack);
	while (!kthread_should_stop()) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (!kthread_should_stop())
			schedule();
	}
	__set_current_state(TASK_RUNNING);
	return word == NULL;
}

static int wait_in_the_module(void *unused)
{
	wait_for_completion(&never);
	while (!kthread_should_stop()) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (!kthread_should_stop())
			schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static void *domain(void)
{
	return PTR_ALIGN(&init_uts_ns.name.domainname[0], sizeof(void *));
}

static void clean_up(void)
{
	int i;

	if (!IS_ERR_OR_NULL(sleeper))
		kthread_stop(sleeper);
	complete_all(&never);
	if (!IS_ERR_OR_NULL(waiter))
		kthread_stop(waiter);
	memcpy(init_uts_ns.name.domainname, before, sizeof(before));
	for (i = 0; i < SIZES; i++)
		kfree(objects[i]);
	if (in_cache)
		kmem_cache_free(cache, in_cache);
	kmem_cache_destroy(cache);
	free_page((unsigned long)in_pages);
	vfree(in_vmalloc);
	free_percpu(per_cpu);
}

static int __init plant_init(void)
{
	int i;

	memcpy(before, init_uts_ns.name.domainname, sizeof(before));
	for (i = 0; i < SIZES; i++) {
		objects[i] = kzalloc(16 << i, GFP_KERNEL);
		if (!objects[i])
			goto no_memory;
		plant("slab", objects[i] + (8 << i));
	}
	cache = kmem_cache_create("lkm_plant", 152, 8, SLAB_HWCACHE_ALIGN, NULL);
	in_cache = cache ? kmem_cache_zalloc(cache, GFP_KERNEL) : NULL;
	freed = cache ? kmem_cache_zalloc(cache, GFP_KERNEL) : NULL;
	in_pages = (void *)get_zeroed_page(GFP_KERNEL);
	in_vmalloc = vzalloc(PAGE_SIZE);
	per_cpu = alloc_percpu(void *);
	if (!in_cache || !freed || !in_pages || !in_vmalloc || !per_cpu)
		goto no_memory;
	plant("slab", in_cache + 3);
	plant("freed", freed + 3);
	kmem_cache_free(cache, freed);
	plant("page", in_pages + 5);
	plant("vmalloc", in_vmalloc + 7);
	plant("per-cpu", raw_cpu_ptr(per_cpu));
	plant("kernel", domain());
	sleeper = kthread_run(sleep_with_a_pointer, NULL, "plant-sleeper");
	if (IS_ERR(sleeper))
		goto no_memory;
	wait_for_completion(&on_stack);
	waiter = kthread_run(wait_in_the_module, NULL, "plant-waiter");
	if (IS_ERR(waiter))
		goto no_memory;
	return 0;
no_memory:
	clean_up();
	return -ENOMEM;
}

static void __exit plant_exit(void)
{
	clean_up();
}

module_init(plant_init);
module_exit(plant_exit);
MODULE_DESCRIPTION("Plants pointers to itself in memory of many kinds");
MODULE_LICENSE("GPL");
