// SPDX-License-Identifier: GPL-2.0-only
/* The VMM's memory: copies, pages, and how the host maps them. */
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>
#include "host/seam.h"

size_t kvmpp_user_read(void *to, __u64 from, size_t size)
{
	return copy_from_user(to, (const void __user *)from, size);
}

size_t kvmpp_user_write(__u64 to, const void *from, size_t size)
{
	return copy_to_user((void __user *)to, from, size);
}

int kvmpp_user_range_ok(__u64 address, __u64 size)
{
	return access_ok((const void __user *)address, size);
}

size_t kvmpp_user_read_atomic(void *to, __u64 from, size_t size)
{
	size_t left;

	if (!access_ok((const void __user *)from, size))
		return size;
	pagefault_disable();
	left = __copy_from_user_inatomic(to, (const void __user *)from, size);
	pagefault_enable();
	return left;
}

size_t kvmpp_user_write_atomic(__u64 to, const void *from, size_t size)
{
	size_t left;

	if (!access_ok((void __user *)to, size))
		return size;
	pagefault_disable();
	left = __copy_to_user_inatomic((void __user *)to, from, size);
	pagefault_enable();
	return left;
}

int kvmpp_user_compare_exchange(__u64 address, unsigned int size, __u64 *expected, __u64 desired)
{
	bool equal;

	/* A LOCKed access that crosses a cache line is a split lock; the caller aligns. */
	if (!access_ok((void __user *)address, size) || address & (size - 1))
		return -EFAULT;

#define EXCHANGE(type)                                                                             \
	do {                                                                                       \
		type __user *target = (type __user *)address;                                      \
		type old = *expected;                                                              \
                                                                                                   \
		unsafe_try_cmpxchg_user(target, &old, (type)desired, fault);                       \
		equal = old == (type)*expected;                                                    \
		*expected = old;                                                                   \
	} while (0)

	if (!user_access_begin((void __user *)address, size))
		return -EFAULT;
	switch (size) {
	case 1:
		EXCHANGE(u8);
		break;
	case 2:
		EXCHANGE(u16);
		break;
	case 4:
		EXCHANGE(u32);
		break;
	case 8:
		EXCHANGE(u64);
		break;
	default:
		goto fault;
	}
#undef EXCHANGE
	user_access_end();
	return equal ? 0 : -EAGAIN;

fault:
	user_access_end();
	return -EFAULT;
}

static int page_result(long pinned, struct page *page, bool writable, struct kvmpp_user_page *out)
{
	if (pinned != 1)
		return pinned == -EINTR || pinned == -EHWPOISON ? pinned : -EFAULT;
	out->pfn = page_to_pfn(page);
	out->writable = writable;
	out->counted = true;
	out->device = false;
	return 0;
}

/*
 * Memory that a driver mapped by frame numbers, with no page that could be referenced. It may be used
 * for as long as the mapping is there, which the caller's watch tells.
 */
static int get_without_page(__u64 address, int write, struct kvmpp_user_page *out)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int result = -EFAULT;
	spinlock_t *lock;
	pte_t *pte;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, address);
	if (!vma || !(vma->vm_flags & (VM_IO | VM_PFNMAP)) ||
	    !(vma->vm_flags & (write ? VM_WRITE : VM_READ)))
		goto out;
	if (follow_pte(mm, address, &pte, &lock)) {
		bool unlocked = false;

		/* Not there yet: its driver may bring it in. */
		if (fixup_user_fault(mm, address, write ? FAULT_FLAG_WRITE : 0, &unlocked))
			goto out;
		/* The mapping may have changed meanwhile; the guest tries again. */
		result = unlocked ? -EAGAIN : follow_pte(mm, address, &pte, &lock);
		if (result)
			goto out;
	}
	result = -EFAULT;
	if (!write || pte_write(*pte)) {
		out->pfn = pte_pfn(*pte);
		out->writable = pte_write(*pte);
		out->counted = false;
		out->device = !page_is_ram(out->pfn);
		result = 0;
	}
	pte_unmap_unlock(pte, lock);
out:
	mmap_read_unlock(mm);
	return result;
}

int kvmpp_user_page_get(__u64 address, int write, int wait, struct kvmpp_user_page *out)
{
	const unsigned int flags =
		FOLL_HWPOISON | (write ? FOLL_WRITE : 0) | (wait ? 0 : FOLL_NOWAIT);
	struct page *page, *better;
	long pinned;

	/* A page that is there already, in the mode that lets the guest write soonest. */
	if (get_user_page_fast_only(address, FOLL_WRITE, &page))
		return page_result(1, page, true, out);

	pinned = get_user_pages_unlocked(address, 1, &page, flags);
	if (pinned == -EFAULT)
		return get_without_page(address, write, out);
	if (!pinned && !wait)
		return -EBUSY;
	if (pinned != 1 || write)
		return page_result(pinned, page, write, out);
	/* Read faults map writable where no copy-on-write is due, which saves the second fault. */
	if (get_user_page_fast_only(address, FOLL_WRITE, &better)) {
		put_page(page);
		return page_result(1, better, true, out);
	}
	return page_result(1, page, false, out);
}

int kvmpp_user_page_get_fast(__u64 address, int write, struct kvmpp_user_page *out)
{
	struct page *page;

	if (get_user_page_fast_only(address, FOLL_WRITE, &page))
		return page_result(1, page, true, out);
	if (!write && get_user_page_fast_only(address, 0, &page))
		return page_result(1, page, false, out);
	return -EAGAIN;
}

void kvmpp_user_page_put(const struct kvmpp_user_page *out, int dirty)
{
	struct page *page;

	if (!out->counted)
		return;
	page = pfn_to_page(out->pfn);
	/* The host's own page tables do not see what a guest writes, so the page is dirty from now. */
	if (dirty && !PageDirty(page)) {
		if (PageAnon(page))
			SetPageDirty(page);
		else
			set_page_dirty_lock(page);
	}
	put_page(page);
}

unsigned int kvmpp_user_mapping_shift(__u64 address)
{
	unsigned int shift = PAGE_SHIFT;
	unsigned long flags;
	pgd_t *pgd, pgd_entry;
	p4d_t *p4d, p4d_entry;
	pud_t *pud, pud_entry;
	pmd_t *pmd, pmd_entry;

	/* Page tables are not freed under us while interrupts are off. */
	local_irq_save(flags);
	pgd = pgd_offset(current->mm, address);
	pgd_entry = READ_ONCE(*pgd);
	if (pgd_none(pgd_entry))
		goto out;
	p4d = p4d_offset(pgd, address);
	p4d_entry = READ_ONCE(*p4d);
	if (p4d_none(p4d_entry) || !p4d_present(p4d_entry))
		goto out;
	pud = pud_offset(&p4d_entry, address);
	pud_entry = READ_ONCE(*pud);
	if (pud_none(pud_entry) || !pud_present(pud_entry))
		goto out;
	if (pud_large(pud_entry)) {
		shift = PUD_SHIFT;
		goto out;
	}
	pmd = pmd_offset(&pud_entry, address);
	pmd_entry = READ_ONCE(*pmd);
	if (!pmd_none(pmd_entry) && pmd_present(pmd_entry) && pmd_large(pmd_entry))
		shift = PMD_SHIFT;
out:
	local_irq_restore(flags);
	return shift;
}
