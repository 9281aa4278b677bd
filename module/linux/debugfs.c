// SPDX-License-Identifier: GPL-2.0-only
/* Statistics as text: a directory for each VM, a file for it and for each of its vCPUs. */
#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include "host/seam.h"
#include "linux/parts.h"

static struct dentry *root;

void __init kvmpp_debugfs_init(void)
{
	root = debugfs_create_dir("kvmpp", NULL);
}

void kvmpp_debugfs_exit(void)
{
	debugfs_remove(root);
}

static int counters_show(struct seq_file *file, void *nothing)
{
	const struct kvmpp_counters *counters = file->private;
	unsigned int i;

	for (i = 0; i < counters->count; i++)
		seq_printf(file, "%s %llu\n", counters->names[i], READ_ONCE(counters->values[i]));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

/* Whoever reads statistics can do without them: no failure here fails a VM. */
void *kvmpp_debugfs_directory(const char *name)
{
	return debugfs_create_dir(name, root);
}

void kvmpp_debugfs_counters(void *directory, const char *name, const struct kvmpp_counters *counters)
{
	debugfs_create_file(name, 0444, directory, (void *)counters, &counters_fops);
}

void kvmpp_debugfs_remove(void *directory)
{
	debugfs_remove(directory);
}
