// SPDX-License-Identifier: GPL-2.0-only
/* Memory of the seam: the kernel's own. */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include "host/seam.h"
#include "linux/parts.h"

__u64 kvmpp_direct_map __ro_after_init;

void __init kvmpp_memory_init(void)
{
	kvmpp_direct_map = (__u64)phys_to_virt(0);
}

void *kvmpp_alloc(size_t size)
{
	return kvzalloc(size, GFP_KERNEL_ACCOUNT);
}

void kvmpp_free(void *memory)
{
	kvfree(memory);
}

void *kvmpp_page_alloc(int node)
{
	struct page *page = alloc_pages_node(node, GFP_KERNEL_ACCOUNT | __GFP_ZERO, 0);

	return page ? page_address(page) : NULL;
}

void *kvmpp_pages_alloc(unsigned int order)
{
	return (void *)__get_free_pages(GFP_KERNEL, order);
}

void kvmpp_pages_free(void *pages, unsigned int order)
{
	free_pages((unsigned long)pages, order);
}
