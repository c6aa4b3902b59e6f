/* Collecting what nobody uses, and the list of domains (section 8). */

#define SUFFIX ".flagstone"

/* NAME of NAME.flagstone. */
static bool folder_domain(const char *folder, char name[80])
{
	size_t length = strlen(folder), suffix = sizeof SUFFIX - 1;
	if (length <= suffix || length - suffix > 64 || strcmp(folder + length - suffix, SUFFIX) != 0)
		return false;
	memcpy(name, folder, length - suffix);
	name[length - suffix] = 0;
	return name_valid(name);
}

/* --- Segment files that no entry lists --- */

struct orphans {
	uint64_t *ids;
	uint32_t *kinds;
	size_t count, room;
};

static bool orphans_each(void *context, int dir, const char *name)
{
	struct orphans *o = context;
	uint32_t kind;
	uint64_t id;
	(void)dir;
	if (!segment_file_name(name, &kind, &id))
		return true;
	if (o->count == o->room) {
		size_t room = o->room ? 2 * o->room : 64;
		uint64_t *ids = realloc(o->ids, room * sizeof *ids);
		if (ids)
			o->ids = ids;
		uint32_t *kinds = realloc(o->kinds, room * sizeof *kinds);
		if (kinds)
			o->kinds = kinds;
		if (!ids || !kinds)
			return false;
		o->room = room;
	}
	o->ids[o->count] = id;
	o->kinds[o->count++] = kind;
	return true;
}

static bool segment_named(struct domain *d, uint64_t id, uint32_t kind)
{
	struct entry entry;
	for (uint32_t i = 0; i < d->shape.entries; i++) {
		uint64_t word = atomic_load(entry_state(d, i));
		if ((word & FS_EntryStateMask) == FS_EntryFree)
			continue;
		/* One that does not stand still may be just listing it. */
		if (!entry_read(d, i, &entry) || (entry.id == id && (entry.kind == FS_KindSlab) == (kind == FS_KindSlab)))
			return true;
	}
	return false;
}

/* The files are listed first and the directory read afterwards: an entry lists its segment before the file is made. */
static uint64_t orphans_remove(struct domain *d, bool punch)
{
	struct orphans o = {NULL, NULL, 0, 0};
	uint64_t removed = 0;
	names_each(d->version_fd, orphans_each, &o);
	for (size_t i = 0; i < o.count; i++) {
		if (segment_named(d, o.ids[i], o.kinds[i]))
			continue;
		if (punch)
			segment_punch(d, o.kinds[i], o.ids[i]);
		removed += segment_unlink(d, o.kinds[i], o.ids[i]);
	}
	free(o.ids);
	free(o.kinds);
	return removed;
}

/* --- Version directories --- */

/* Of a domain that is in order, and of this layout. */
static uint64_t collect_segments(const char *dir, const char *name)
{
	struct domain_options options = {.read = true, .group = true};
	struct domain *d;
	if (domain_open(dir, name, &options, &d) != FLAGSTONE_OK)
		return 0;
	uint64_t removed = orphans_remove(d, false);
	domain_release(d);
	return removed;
}

/* Is it debris? Of another major version nothing but an empty control can be told. */
static bool control_debris(int control, bool own)
{
	struct FS_ControlHeader page;
	uint64_t size = 0, boot[2];
	if (header_copy(control, &page, &size) != FLAGSTONE_OK)
		return false;
	if (size == 0)
		return true;
	if (!own)
		return false;
	if (header_stage(&page, size) != CONTROL_WHOLE)
		return true;
	struct control_shape shape;
	return LOAD(page.Magic) == FS_ControlMagic && boot_id(boot) && header_check(&page, size, false, "control", &shape) == FLAGSTONE_STALEBOOT;
}

/* Steps 1 to 6 of one version directory; unused: also one that is in order. true: it was removed. */
static bool collect_version(int dir, int domain, const char *folder, const char *version, bool unused)
{
	bool own = strtoull(version + 1, NULL, 10) == FS_Major, removed = false;
	int fd, control = -1;
	if (file_open(domain, version, true, false, true, &fd) != FLAGSTONE_OK)
		return false;
	if (file_have(fd, "control", false, true, true, true, &control) == FLAGSTONE_OK &&
	    byte_take_range(control, FS_InitByte, 0) == 1 && /* InitByte and all leases, to the end of the file's bytes */
	    same_file(control, fd, "control") && same_file(fd, domain, version) && ((unused && own) || control_debris(control, own))) {
		uint64_t destroyed = FS_ControlDestroyed;
		struct FS_ControlHeader page;
		uint64_t size = 0;
		if (own && header_copy(control, &page, &size) == FLAGSTONE_OK && size >= FS_PageSize &&
		    pwrite(control, &destroyed, sizeof destroyed, offsetof(struct FS_ControlHeader, Ready)) < 0)
			removed = false; /* readers find out when they look at the path */
		removed = version_remove(dir, domain, folder, version) == FLAGSTONE_OK;
	}
	if (control >= 0) {
		byte_give(control, FS_InitByte, 0); /* a child forked meanwhile has the description too */
		close(control);
	}
	close(fd);
	return removed;
}

struct collect {
	const char *dir;
	const char *folder;
	int above;
	bool unused;
	uint64_t removed;
};

static bool collect_version_each(void *context, int domain, const char *name)
{
	struct collect *c = context;
	if (name[0] == 'v' && name[1] && strspn(name + 1, "0123456789") == strlen(name + 1))
		c->removed += collect_version(c->above, domain, c->folder, name, c->unused);
	return true;
}

static bool collect_folder_each(void *context, int dir, const char *folder)
{
	struct collect *c = context;
	char name[80];
	int domain;
	if (name_hidden(folder, NULL)) {
		char inner[NAME_MOST];
		size_t length = strlen(folder) - HIDDEN_DIGITS - 2;
		snprintf(inner, sizeof inner, "%.*s", (int)length, folder + 1);
		if (folder_domain(inner, name) && hidden_remove(dir, folder))
			c->removed++;
		return true;
	}
	if (!folder_domain(folder, name) || file_open(dir, folder, true, false, true, &domain) != FLAGSTONE_OK)
		return true;
	c->removed += hidden_sweep(domain, NULL);
	c->folder = folder;
	names_each(domain, collect_version_each, c);
	close(domain);
	c->removed += collect_segments(c->dir, name);
	unlinkat(dir, folder, AT_REMOVEDIR);
	return true;
}

static flagstone_status domain_collect(const char *dir, bool unused, uint64_t *removed)
{
	struct collect c = {dir ? dir : "/dev/shm", NULL, -1, unused, 0};
	flagstone_status status = dir_open(c.dir, &c.above);
	if (status != FLAGSTONE_OK)
		return status;
	names_each(c.above, collect_folder_each, &c);
	close(c.above);
	if (removed)
		*removed = c.removed;
	return FLAGSTONE_OK;
}

/* --- List --- */

struct names {
	char (*name)[80];
	size_t count, room;
	bool failed;
};

static bool list_each(void *context, int dir, const char *folder)
{
	struct names *names = context;
	char name[80], path[120];
	struct stat file;
	if (!folder_domain(folder, name))
		return true;
	snprintf(path, sizeof path, "%s/v%d/control", folder, FS_Major);
	if (fstatat(dir, path, &file, AT_SYMLINK_NOFOLLOW) != 0 || file.st_size == 0)
		return true;
	if (names->count == names->room) {
		size_t room = names->room ? 2 * names->room : 64;
		void *more = realloc(names->name, room * sizeof *names->name);
		names->failed = !more;
		if (!more)
			return false;
		names->name = more;
		names->room = room;
	}
	memcpy(names->name[names->count++], name, sizeof name);
	return true;
}

static int list_compare(const void *a, const void *b) { return strcmp(a, b); }

static flagstone_status domain_list(const char *dir, bool (*each)(void *context, const char *name), void *context)
{
	struct names names = {NULL, 0, 0, false};
	int fd;
	flagstone_status status = dir_open(dir ? dir : "/dev/shm", &fd);
	if (status != FLAGSTONE_OK)
		return status;
	names_each(fd, list_each, &names);
	close(fd);
	if (names.failed)
		status = fail(FLAGSTONE_NOMEMORY, "list domains");
	else if (names.count)
		qsort(names.name, names.count, sizeof *names.name, list_compare);
	for (size_t i = 0; status == FLAGSTONE_OK && i < names.count && each(context, names.name[i]); i++)
		;
	free(names.name);
	return status;
}
