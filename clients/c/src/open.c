/* Opening, destroying and leaving a domain (section 8). */

enum { OPEN_PATIENCE = 10000, INIT_PAUSE_US = 500 };

static struct { /* this process's domain objects, for the fork handler and reattach */
	pthread_mutex_t lock;
	pthread_once_t once;
	struct domain *first;
} domains = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_ONCE_INIT, NULL};

/* --- Looking whether a domain is still there --- */

static bool same_file(int fd, int above, const char *path)
{
	struct stat mine, there;
	return fstat(fd, &mine) == 0 && fstatat(above, path, &there, AT_SYMLINK_NOFOLLOW) == 0 && mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

/* Does the domain's path lead to the control that is open? */
static bool domain_in_place(struct domain *d)
{
	char path[4200];
	snprintf(path, sizeof path, "%s/%s.flagstone/v%d/control", d->dir, d->name, FS_Major);
	return same_file(d->control_fd, AT_FDCWD, path);
}

static flagstone_status domain_refuse(struct domain *d)
{
	uint32_t fate = atomic_load(&d->fate);
	if (fate == FLAGSTONE_OK && atomic_load(&d->header->Ready) == FS_ControlDestroyed) {
		atomic_compare_exchange_strong(&d->fate, &fate, FLAGSTONE_DESTROYED);
		fate = atomic_load(&d->fate);
	}
	switch (fate) {
	case FLAGSTONE_OK: return FLAGSTONE_OK;
	case FLAGSTONE_FORKED: return fail(FLAGSTONE_FORKED, "domain %s: opened by the process that this one was forked from", d->name);
	case FLAGSTONE_DESTROYED: return fail(FLAGSTONE_DESTROYED, "domain %s: it was destroyed, or its path leads elsewhere", d->name);
	case FLAGSTONE_LOST: return fail(FLAGSTONE_LOST, "domain %s: an unlock found another owner", d->name);
	case FLAGSTONE_FAULT: return fail(FLAGSTONE_FAULT, "domain %s: the kernel refused an access to a mapping", d->name);
	default: return fail(FLAGSTONE_CLOSED, "domain %s: it is closed", d->name);
	}
}

static flagstone_status domain_writable(struct domain *d)
{
	flagstone_status status = domain_ready(d);
	return status == FLAGSTONE_OK && d->read ? fail(FLAGSTONE_READONLY, "domain %s: opened for reading, without a region", d->name) : status;
}

/* Afterwards: who finds the path leading elsewhere writes 1 to Changes, so that others look, and nothing else. */
static flagstone_status domain_look(struct domain *d)
{
	flagstone_status status = domain_ready(d);
	if (status != FLAGSTONE_OK || domain_in_place(d))
		return status;
	uint32_t whole = FLAGSTONE_OK;
	if (!d->read)
		changed_quietly(d);
	atomic_compare_exchange_strong(&d->fate, &whole, FLAGSTONE_DESTROYED);
	return domain_refuse(d);
}

/* --- InitByte --- */

static flagstone_status init_take(int fd, uint64_t deadline, const char *name)
{
	for (;;) {
		int taken = byte_take(fd, FS_InitByte);
		if (taken > 0)
			return FLAGSTONE_OK;
		if (taken < 0)
			return errno == EINVAL ? fail(FLAGSTONE_LOCKS, "lock a byte of %s's control: no open file description locks", name)
			                       : fail_errno("lock InitByte of %s", name);
		if (deadline_over(deadline))
			return fail(FLAGSTONE_BUSY, "InitByte of %s: another process has had it for longer than the patience", name);
		pause_us(INIT_PAUSE_US);
	}
}

static flagstone_status exclusive_begin(struct domain *d, uint64_t deadline)
{
	flagstone_status status = domain_writable(d);
	if (status != FLAGSTONE_OK)
		return status;
	if (!turn_take(&d->exclusive, deadline))
		return fail(FLAGSTONE_BUSY, "InitByte of %s: another thread has had it for longer than the patience", d->name);
	status = init_take(d->control_fd, deadline, d->name);
	if (status != FLAGSTONE_OK) {
		turn_give(&d->exclusive);
		return status;
	}
	status = domain_look(d);
	if (status != FLAGSTONE_OK)
		exclusive_end(d);
	return status;
}

static void exclusive_end(struct domain *d)
{
	if (atomic_load(&d->fate) == FLAGSTONE_FORKED)
		return;
	byte_give(d->control_fd, FS_InitByte, 1);
	turn_give(&d->exclusive);
}

/* --- The way to control --- */

struct way { /* descriptors from DIR to control, and the names */
	int dir, domain, version, control;
	char folder[80], leaf[8];
};

static void way_close(struct way *way)
{
	int fds[] = {way->dir, way->domain, way->version, way->control};
	for (int i = 0; i < 4; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	way->dir = way->domain = way->version = way->control = -1;
}

/* Step 1. FLAGSTONE_NO: begin again. */
static flagstone_status way_open(struct way *way, const char *dir, const char *name, bool create, bool write, bool group)
{
	way->dir = way->domain = way->version = way->control = -1;
	snprintf(way->folder, sizeof way->folder, "%s.flagstone", name);
	snprintf(way->leaf, sizeof way->leaf, "v%d", FS_Major);
	flagstone_status status = dir_open(dir, &way->dir);
	if (status == FLAGSTONE_OK)
		status = file_have(way->dir, way->folder, true, create, false, group, &way->domain);
	if (status == FLAGSTONE_OK)
		status = file_have(way->domain, way->leaf, true, create, false, group, &way->version);
	if (status == FLAGSTONE_OK)
		status = file_have(way->version, "control", false, create, write, group, &way->control);
	if (status != FLAGSTONE_OK)
		way_close(way);
	return status;
}

/* A copy of the first page, as far as there is one; the file's size. */
static flagstone_status header_copy(int fd, struct FS_ControlHeader *page, uint64_t *size)
{
	struct stat file;
	memset(page, 0, sizeof *page);
	if (fstat(fd, &file) != 0 || pread(fd, page, sizeof *page, 0) < 0)
		return fail_errno("read control");
	*size = (uint64_t)file.st_size;
	return FLAGSTONE_OK;
}

enum { CONTROL_WHOLE, CONTROL_UNFINISHED, CONTROL_GONE };

/* Step 2. */
static int header_stage(const struct FS_ControlHeader *page, uint64_t size)
{
	uint64_t magic = LOAD(page->Magic), ready = LOAD(page->Ready);
	if (size == 0 || ((magic == FS_ControlMagic || magic == 0) && ready == 0))
		return CONTROL_UNFINISHED;
	return magic == FS_ControlMagic && ready == FS_ControlDestroyed ? CONTROL_GONE : CONTROL_WHOLE;
}

static bool segment_files_each(void *context, int dir, const char *name)
{
	uint32_t kind;
	uint64_t id;
	(void)context;
	if (segment_file_name(name, &kind, &id))
		unlinkat(dir, name, 0);
	return true;
}

/* Steps 4 and 5, InitByte held. FLAGSTONE_NO: begin again. */
static flagstone_status way_settle(struct way *way, const struct domain_options *options)
{
	struct FS_ControlHeader page;
	uint64_t size = 0;
	if (!same_file(way->control, way->version, "control") || !same_file(way->version, way->domain, way->leaf))
		return FLAGSTONE_NO;
	flagstone_status status = header_copy(way->control, &page, &size);
	if (status != FLAGSTONE_OK)
		return status;
	switch (header_stage(&page, size)) {
	case CONTROL_GONE:
		status = version_remove(way->dir, way->domain, way->folder, way->leaf);
		return status == FLAGSTONE_OK ? FLAGSTONE_NO : status;
	case CONTROL_UNFINISHED:
		if (byte_held(way->control, FS_LeaseByte, FS_MaxRegions))
			return fail(FLAGSTONE_NOTREADY, "control: Ready is 0, and somebody holds a lease");
		hidden_sweep(way->dir, way->folder);
		hidden_sweep(way->domain, way->leaf);
		hidden_sweep(way->version, "control");
		names_each(way->version, segment_files_each, NULL);
		return control_make(way->control, options);
	default:
		return FLAGSTONE_OK;
	}
}

/* Steps 2 to 5. */
static flagstone_status way_prepare(struct way *way, const struct domain_options *options, const char *name, uint64_t deadline)
{
	struct FS_ControlHeader page;
	uint64_t size = 0;
	flagstone_status status = header_copy(way->control, &page, &size);
	if (status != FLAGSTONE_OK)
		return status;
	int stage = header_stage(&page, size);
	if (stage == CONTROL_WHOLE)
		return FLAGSTONE_OK;
	if (!options->create) {
		/* Somebody may be making or removing it: look again as long as there is patience. */
		if (!deadline_over(deadline) && byte_held(way->control, FS_InitByte, 1)) {
			pause_us(INIT_PAUSE_US);
			return FLAGSTONE_NO;
		}
		return stage == CONTROL_GONE ? fail(FLAGSTONE_NOTFOUND, "domain %s: it was destroyed", name)
		       : byte_held(way->control, FS_LeaseByte, FS_MaxRegions)
		           ? fail(FLAGSTONE_NOTREADY, "domain %s: Ready is 0, and somebody holds a lease", name)
		           : fail(FLAGSTONE_NOTFOUND, "domain %s: nobody has finished it", name);
	}
	status = init_take(way->control, deadline, name);
	if (status != FLAGSTONE_OK)
		return status;
	status = way_settle(way, options);
	byte_give(way->control, FS_InitByte, 1);
	return status;
}

/* Step 6, and the mapping. */
static flagstone_status domain_map(struct domain *d)
{
	struct FS_ControlHeader page;
	uint64_t size = 0;
	char name[128];
	snprintf(name, sizeof name, "%s.flagstone/v%d/control", d->name, FS_Major);
	flagstone_status status = header_copy(d->control_fd, &page, &size);
	if (status == FLAGSTONE_OK)
		status = header_check(&page, size, d->read, name, &d->shape);
	if (status != FLAGSTONE_OK)
		return status;
	void *base = mmap(NULL, d->shape.size, d->read ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, d->control_fd, 0);
	if (base == MAP_FAILED)
		return fail_errno("map %s", name);
	madvise(base, d->shape.size, MADV_DONTFORK);
	d->header = base;
	memcpy(d->header_seen, &page, sizeof d->header_seen);
	d->hash_seed = LOAD(page.HashSeed);
	d->uuid[0] = LOAD(page.DomainUUID[0]);
	d->uuid[1] = LOAD(page.DomainUUID[1]);
	return fault_watch(d, base, d->shape.size);
}

static void domain_unmap(struct domain *d)
{
	fault_forget(d, NULL);
	if (d->header)
		munmap(d->header, d->shape.size);
	d->header = NULL;
	d->own = NULL;
	if (d->version_fd >= 0)
		close(d->version_fd);
	if (d->control_fd >= 0)
		close(d->control_fd); /* the lease goes last */
	d->version_fd = d->control_fd = -1;
	free(d->mutex_turns);
	d->mutex_turns = NULL;
	free(d->suspects);
	d->suspects = NULL;
}

/* One round of steps 1 to 8. FLAGSTONE_NO: begin again. */
static flagstone_status domain_join_once(struct domain *d, const struct domain_options *options, uint64_t deadline)
{
	struct way way;
	flagstone_status status = way_open(&way, d->dir, d->name, options->create, !d->read, options->group);
	if (status != FLAGSTONE_OK)
		return status;
	status = way_prepare(&way, options, d->name, deadline);
	if (status != FLAGSTONE_OK) {
		way_close(&way);
		return status;
	}
	d->version_fd = way.version;
	d->control_fd = way.control;
	way.version = way.control = -1;
	way_close(&way);
	d->token = 0;
	d->region = UINT32_MAX;
	status = domain_map(d);
	if (status == FLAGSTONE_OK) {
		d->mutex_turns = turns_make(d->shape.mutexes);
		d->suspects = suspects_make(d->shape.regions);
		if (!d->mutex_turns || !d->suspects)
			status = fail(FLAGSTONE_NOMEMORY, "open domain %s", d->name);
	}
	if (status == FLAGSTONE_OK && !d->read)
		status = region_claim(d);
	if (status == FLAGSTONE_OK && (!domain_in_place(d) || atomic_load(&d->header->Ready) == FS_ControlDestroyed)) {
		if (!d->read)
			atomic_store(&d->own->State, (uint64_t)d->generation << FS_StateGenerationShift | FS_RegionFree);
		status = FLAGSTONE_NO;
	}
	if (status != FLAGSTONE_OK)
		domain_unmap(d);
	return status;
}

static flagstone_status domain_join(struct domain *d, const struct domain_options *options)
{
	uint64_t deadline = deadline_in(options->patience ? options->patience : OPEN_PATIENCE);
	flagstone_status status;
	do
		status = domain_join_once(d, options, deadline);
	while (status == FLAGSTONE_NO && !deadline_over(deadline));
	if (status == FLAGSTONE_NO)
		return fail(FLAGSTONE_BUSY, "open domain %s: others kept removing it", d->name);
	if (status != FLAGSTONE_OK)
		return status;
	if (!d->read) {
		clock_advance(d);
		changed(d);
	}
	status = service_start(d);
	if (status != FLAGSTONE_OK) {
		if (!d->read)
			region_leave(d);
		domain_unmap(d);
	}
	return status;
}

/* --- Beginning and end of a domain object --- */

static void domain_free(struct domain *d)
{
	free(d->dir);
	free(d->name);
	free(d->stripes);
	pthread_mutex_destroy(&d->lists);
	free(d);
}

static struct domain *domain_make(const char *dir, const char *name, const struct domain_options *options)
{
	struct domain *d = aligned_alloc(_Alignof(struct domain), sizeof *d);
	if (!d)
		return NULL;
	memset(d, 0, sizeof *d);
	d->dir = realpath(dir, NULL);
	if (!d->dir)
		d->dir = strdup(dir); /* what is wrong with it is said when it is opened */
	d->name = strdup(name);
	d->stripes = aligned_alloc(_Alignof(struct stripe), COUNT_STRIPES * sizeof *d->stripes);
	d->options = *options;
	d->read = options->read;
	d->version_fd = d->control_fd = -1;
	d->users = 1;
	d->life = 1;
	pthread_mutex_init(&d->lists, NULL);
	if (d->dir && d->name && d->stripes) {
		memset(d->stripes, 0, COUNT_STRIPES * sizeof *d->stripes);
		return d;
	}
	domain_free(d);
	return NULL;
}

static flagstone_status domain_open(const char *dir, const char *name, const struct domain_options *options, struct domain **made)
{
	if (!name_valid(name))
		return fail(FLAGSTONE_OPTIONS, "open domain: the name is not 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot");
	if (options->wake > FS_WakeSignal || (options->wake == FS_WakeSignal && !signal_allowed(options->wake_signal ? (uint32_t)options->wake_signal : SIGUSR1)))
		return fail(FLAGSTONE_OPTIONS, "open domain %s: wake mode %u, signal %d", name, options->wake, options->wake_signal);
	struct domain *d = domain_make(dir ? dir : "/dev/shm", name, options);
	if (!d)
		return fail(FLAGSTONE_NOMEMORY, "open domain %s", name);
	if (d->read)
		d->options.create = false;
	pthread_once(&domains.once, fork_install);
	flagstone_status status = domain_join(d, &d->options);
	if (status != FLAGSTONE_OK) {
		domain_free(d);
		return status;
	}
	pthread_mutex_lock(&domains.lock);
	d->next = domains.first;
	domains.first = d;
	pthread_mutex_unlock(&domains.lock);
	*made = d;
	return FLAGSTONE_OK;
}

static void domain_hold(struct domain *d) { atomic_fetch_add(&d->users, 1); }

static void domain_release(struct domain *d)
{
	if (atomic_fetch_sub(&d->users, 1) != 1)
		return;
	pthread_mutex_lock(&domains.lock);
	for (struct domain **link = &domains.first; *link; link = &(*link)->next)
		if (*link == d) {
			*link = d->next;
			break;
		}
	pthread_mutex_unlock(&domains.lock);
	service_stop(d);
	if (domain_writable(d) == FLAGSTONE_OK) {
		steward_resign(d);
		region_leave(d);
	}
	domain_unmap(d);
	for (struct blanked *zeros = d->blanked, *next; zeros; zeros = next) {
		next = zeros->next;
		munmap(zeros->base, zeros->size);
		free(zeros);
	}
	domain_free(d);
}

/* --- Destroying --- */

/* Steps 2 to 4, if control is in order. */
static void control_destroyed(struct way *way, struct domain *d)
{
	d->control_fd = way->control;
	d->region = UINT32_MAX;
	struct FS_ControlHeader page;
	uint64_t size = 0;
	if (header_copy(way->control, &page, &size) != FLAGSTONE_OK ||
	    header_check(&page, size, false, "control", &d->shape) != FLAGSTONE_OK)
		return;
	void *base = mmap(NULL, d->shape.size, PROT_READ | PROT_WRITE, MAP_SHARED, way->control, 0);
	if (base == MAP_FAILED)
		return;
	d->header = base;
	if (fault_watch(d, base, d->shape.size) == FLAGSTONE_OK) {
		atomic_store(&d->header->Ready, FS_ControlDestroyed);
		changed(d);
		fault_forget(d, base);
	}
	munmap(base, d->shape.size);
}

static flagstone_status destroy_once(const char *dir, const char *name, bool group, uint64_t deadline)
{
	struct way way;
	flagstone_status status = way_open(&way, dir, name, false, true, group);
	if (status != FLAGSTONE_OK)
		return status;
	status = init_take(way.control, deadline, name);
	if (status == FLAGSTONE_OK && !same_file(way.control, way.version, "control"))
		status = FLAGSTONE_NO;
	if (status == FLAGSTONE_OK && !same_file(way.version, way.domain, way.leaf))
		status = FLAGSTONE_NO;
	if (status == FLAGSTONE_OK) {
		struct domain *d = aligned_alloc(_Alignof(struct domain), sizeof *d);
		if (d) {
			memset(d, 0, sizeof *d);
			control_destroyed(&way, d);
			free(d);
			status = version_remove(way.dir, way.domain, way.folder, way.leaf);
		} else {
			status = fail(FLAGSTONE_NOMEMORY, "destroy domain %s", name);
		}
	}
	way_close(&way);
	return status;
}

/* Shared with a group or not, the owner may remove it. */
static flagstone_status domain_destroy(const char *dir, const char *name, uint32_t patience)
{
	if (!name_valid(name))
		return fail(FLAGSTONE_OPTIONS, "destroy domain: the name is not 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot");
	uint64_t deadline = deadline_in(patience ? patience : OPEN_PATIENCE);
	flagstone_status status;
	do
		status = destroy_once(dir ? dir : "/dev/shm", name, true, deadline);
	while (status == FLAGSTONE_NO && !deadline_over(deadline));
	return status == FLAGSTONE_NO ? fail(FLAGSTONE_BUSY, "destroy domain %s: others kept making it anew", name) : status;
}
