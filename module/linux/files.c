// SPDX-License-Identifier: GPL-2.0-only
/* Descriptors of VMs and vCPUs. */
#include <linux/anon_inodes.h>
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include "api/entry.h"
#include "host/seam.h"

static long vm_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	return kvmpp_vm_ioctl(file->private_data, command, argument);
}

#ifdef CONFIG_COMPAT
static long vm_ioctl_compat(struct file *file, unsigned int command, unsigned long argument)
{
	return kvmpp_vm_ioctl_compat(file->private_data, command, (unsigned long)compat_ptr(argument));
}
#else
#define vm_ioctl_compat NULL
#endif

/* An abandoned file has no owner to release. */
static int vm_release(struct inode *inode, struct file *file)
{
	if (file->private_data)
		kvmpp_vm_release(file->private_data);
	return 0;
}

static const struct file_operations vm_operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vm_ioctl,
	.compat_ioctl = vm_ioctl_compat,
	.release = vm_release,
	.llseek = noop_llseek,
};

static long vcpu_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	return kvmpp_vcpu_ioctl(file->private_data, command, argument);
}

static int vcpu_release(struct inode *inode, struct file *file)
{
	if (file->private_data)
		kvmpp_vcpu_release(file->private_data);
	return 0;
}

static vm_fault_t vcpu_fault(struct vm_fault *fault)
{
	void *page = kvmpp_vcpu_page(fault->vma->vm_file->private_data, fault->pgoff);

	if (!page)
		return VM_FAULT_SIGBUS;
	fault->page = virt_to_page(page);
	get_page(fault->page);
	return 0;
}

static const struct vm_operations_struct vcpu_vm_operations = {
	.fault = vcpu_fault,
};

static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	const bool plain = vma->vm_flags & VM_SHARED && !(vma->vm_flags & VM_EXEC);

	if (!plain && kvmpp_vcpu_shows_dirty_ring(file->private_data, vma->vm_pgoff, vma_pages(vma)))
		return -EINVAL;
	vma->vm_ops = &vcpu_vm_operations;
	return 0;
}

static const struct file_operations vcpu_operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vcpu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = vcpu_mmap,
	.release = vcpu_release,
	.llseek = noop_llseek,
};

static ssize_t statistics_read(struct file *file, char __user *buffer, size_t size, loff_t *offset)
{
	return kvmpp_statistics_read(file->private_data, (unsigned long)buffer, size, offset);
}

static int statistics_release(struct inode *inode, struct file *file)
{
	if (file->private_data)
		kvmpp_statistics_release(file->private_data);
	return 0;
}

static const struct file_operations statistics_operations = {
	.owner = THIS_MODULE,
	.read = statistics_read,
	.release = statistics_release,
	.llseek = noop_llseek,
};

static int prepare(struct kvmpp_new_file *out, const char *name,
		   const struct file_operations *operations, void *owner)
{
	struct file *file;
	int fd = get_unused_fd_flags(O_CLOEXEC);

	if (fd < 0)
		return fd;
	file = anon_inode_getfile(name, operations, owner,
				  operations->read ? O_RDONLY : O_RDWR);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	if (operations->read)
		file->f_mode |= FMODE_PREAD;
	out->fd = fd;
	out->file = file;
	return 0;
}

int kvmpp_file_prepare_vm(struct kvmpp_new_file *file, void *vm)
{
	return prepare(file, "kvm-vm", &vm_operations, vm);
}

int kvmpp_file_prepare_vcpu(struct kvmpp_new_file *file, void *vcpu, __u32 id)
{
	char name[32];

	snprintf(name, sizeof(name), "kvm-vcpu:%u", id);
	return prepare(file, name, &vcpu_operations, vcpu);
}

int kvmpp_file_prepare_statistics(struct kvmpp_new_file *file, const char *name, void *statistics)
{
	return prepare(file, name, &statistics_operations, statistics);
}

void kvmpp_file_install(const struct kvmpp_new_file *file)
{
	fd_install(file->fd, file->file);
}

void kvmpp_file_abandon(const struct kvmpp_new_file *new)
{
	struct file *file = new->file;

	file->private_data = NULL;
	fput(file);
	put_unused_fd(new->fd);
}
