/* The directory (section 10): entries, publishing, draining, retiring. Every CAS compares the whole state word. */

enum { ENTRY_TRIES = 64 };

#define ENTRY_WORD(generation, upper, state) ((uint64_t)(generation) << FS_StateGenerationShift | (uint64_t)(upper) << FS_EntryRegionShift | (state))

static struct FS_Entry *entry_at(struct domain *d, uint32_t number)
{
	return (struct FS_Entry *)(void *)((unsigned char *)d->header + d->shape.entry_offset) + number;
}

static uint16_t entry_upper(uint64_t word) { return (uint16_t)(word >> FS_EntryRegionShift); }

static uint64_t entry_freed(uint64_t word) { return ENTRY_WORD((uint32_t)(GENERATION(word) + 1), 0, FS_EntryFree); }

static bool entry_swap(struct domain *d, uint32_t number, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong(entry_state(d, number), &from, to);
}

static void entry_copy(struct FS_Entry *e, struct entry *entry)
{
	entry->kind = atomic_load_explicit(&e->Kind, memory_order_relaxed);
	entry->tier = atomic_load_explicit(&e->Tier, memory_order_relaxed);
	entry->id = atomic_load_explicit(&e->SegmentID, memory_order_relaxed);
	entry->mutex = atomic_load_explicit(&e->MutexID, memory_order_relaxed);
	entry->size = atomic_load_explicit(&e->Size, memory_order_relaxed);
	entry->creator = atomic_load_explicit(&e->Creator, memory_order_relaxed);
	entry->created = atomic_load_explicit(&e->Created, memory_order_relaxed);
	entry->stack = atomic_load_explicit(&e->Stack, memory_order_relaxed);
	for (int i = 0; i < 4; i++) {
		uint64_t name = atomic_load_explicit(&e->Name[i], memory_order_relaxed);
		memcpy(entry->name + 8 * i, &name, sizeof name);
		entry->params[i] = atomic_load_explicit(&e->Params[i], memory_order_relaxed);
	}
	entry->name_length = FS_NameLength;
	while (entry->name_length && entry->name[entry->name_length - 1] == 0)
		entry->name_length--;
}

static bool entry_read(struct domain *d, uint32_t number, struct entry *entry)
{
	for (int tries = 0; tries < ENTRY_TRIES; tries++) {
		uint64_t word = atomic_load(entry_state(d, number));
		if ((word & FS_EntryStateMask) == FS_EntryFree)
			return false;
		memset(entry, 0, sizeof *entry);
		entry_copy(entry_at(d, number), entry);
		fence(memory_order_acquire);
		if (atomic_load(entry_state(d, number)) != word)
			continue;
		entry->number = number;
		entry->word = word;
		entry->generation = GENERATION(word);
		entry->state = (uint32_t)(word & FS_EntryStateMask);
		entry->drains = entry->state == FS_EntryCreating ? 0 : entry_upper(word);
		return true;
	}
	return false;
}

/* --- Segment files --- */

struct segment_name { char text[32]; };

static struct segment_name segment_name(uint32_t kind, uint64_t id)
{
	struct segment_name name;
	snprintf(name.text, sizeof name.text, "%s-%016llx", kind == FS_KindSlab ? "slab" : "app", (unsigned long long)id);
	return name;
}

static bool segment_file_exists(struct domain *d, uint32_t kind, uint64_t id)
{
	struct stat status;
	return fstatat(d->version_fd, segment_name(kind, id).text, &status, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/* Gives the pages of a slab's file back, for those who still map it: zeros are empty shards. */
static void segment_punch(struct domain *d, uint32_t kind, uint64_t id)
{
	int fd = openat(d->version_fd, segment_name(kind, id).text, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat status;
	if (fd < 0)
		return;
	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0)
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, status.st_size);
	close(fd);
}

static bool segment_unlink(struct domain *d, uint32_t kind, uint64_t id)
{
	return unlinkat(d->version_fd, segment_name(kind, id).text, 0) == 0;
}

/* --- What the dead leave --- */

/* CREATING to FREE: an id is used once, so the file is that of the word, however late. */
static void entry_undo(struct domain *d, const struct entry *entry)
{
	if (entry->id)
		segment_unlink(d, entry->kind, entry->id);
	if (entry_swap(d, entry->number, entry->word, entry_freed(entry->word)))
		changed_quietly(d);
}

/* Reap, step 2: entries that are CREATING by the region whose lease the caller has, or by none that exists. */
static void entries_of_dead(struct domain *d, uint32_t region)
{
	struct entry entry;
	for (uint32_t i = 0; i < d->shape.entries; i++)
		if (entry_read(d, i, &entry) && entry.state == FS_EntryCreating) {
			uint32_t creator = (uint32_t)entry_upper(entry.word) - 1;
			if (creator == region || creator >= d->shape.regions)
				entry_undo(d, &entry);
		}
}

/* The same for creators in quarantine: provably gone, a child keeps the lease. */
static void entries_of_gone(struct domain *d)
{
	struct entry entry;
	for (uint32_t i = 0; i < d->shape.entries; i++) {
		if (!entry_read(d, i, &entry) || entry.state != FS_EntryCreating)
			continue;
		uint32_t creator = (uint32_t)entry_upper(entry.word) - 1;
		if (creator >= d->shape.regions) {
			entry_undo(d, &entry);
			continue;
		}
		uint64_t word = atomic_load(&region_at(d, creator)->State);
		if (creator != d->region && REGION_STATE(word) == FS_RegionClaimed &&
		    byte_held(d->control_fd, FS_LeaseByte + creator, 1) && region_gone(d, creator, word))
			entry_undo(d, &entry);
	}
}

static flagstone_status entry_open(struct domain *d, uint32_t number, uint64_t word)
{
	if ((word & FS_EntryStateMask) == FS_EntryOpen)
		return FLAGSTONE_OK;
	if ((word & FS_EntryStateMask) != FS_EntryActive)
		return fail(FLAGSTONE_STATE, "entry %u: not ACTIVE but %#llx", number, (unsigned long long)word);
	/* Changes first: who misses what is moved there afterwards has an old view (publish.pml BREAK_REBUMP). */
	changed_quietly(d);
	uint64_t now = word;
	if (!atomic_compare_exchange_strong(entry_state(d, number), &now, (word & ~FS_EntryStateMask) | FS_EntryOpen) &&
	    (GENERATION(now) != GENERATION(word) || (now & FS_EntryStateMask) != FS_EntryOpen))
		return fail(FLAGSTONE_STATE, "entry %u: was %#llx, is %#llx", number, (unsigned long long)word, (unsigned long long)now);
	ring_all(d);
	return FLAGSTONE_OK;
}

static void entries_open_active(struct domain *d)
{
	for (uint32_t i = 0; i < d->shape.entries; i++) {
		uint64_t word = atomic_load(entry_state(d, i));
		if ((word & FS_EntryStateMask) == FS_EntryActive)
			entry_open(d, i, word);
	}
}

/* --- Retiring --- */

/* Does a living region list the segment? Pairs with Attaching: listed first and looked at last there, the state first and the lists last here. */
static bool segment_listed(struct domain *d, uint64_t id)
{
	for (uint32_t region = 0; region < d->shape.regions; region++) {
		struct FS_Region *r = region_at(d, region);
		uint64_t word = atomic_load(&r->State);
		if (REGION_STATE(word) != FS_RegionClaimed)
			continue;
		_Atomic(uint64_t) *mapped = region_words(r) + d->shape.held;
		bool listed = false;
		for (uint32_t i = 0; i < d->shape.mapped && !listed; i++)
			listed = atomic_load(&mapped[i]) == id;
		if (listed && region_lives(d, region, word))
			return true;
	}
	return false;
}

/* Steps 2 to 5 of a RETIRED entry whose file is there, and 6. */
static void entry_bury(struct domain *d, const struct entry *entry, bool own)
{
	if (own || segment_file_exists(d, entry->kind, entry->id)) {
		changed_quietly(d);
		if (entry->kind == FS_KindSlab)
			segment_punch(d, entry->kind, entry->id);
		if (segment_unlink(d, entry->kind, entry->id) || own)
			ring_all(d);
	}
	if (!segment_listed(d, entry->id) && !segment_file_exists(d, entry->kind, entry->id) &&
	    entry_swap(d, entry->number, entry->word, entry_freed(entry->word)))
		changed_quietly(d);
}

static void entries_recycle(struct domain *d)
{
	struct entry entry;
	for (uint32_t i = 0; !d->read && i < d->shape.entries; i++)
		if (entry_read(d, i, &entry) && entry.state == FS_EntryRetired)
			entry_bury(d, &entry, false);
}

static void entries_finish(struct domain *d)
{
	if (d->read)
		return;
	entries_of_gone(d);
	entries_open_active(d);
	entries_recycle(d);
}

static flagstone_status entry_drain(struct domain *d, uint32_t number, uint32_t generation, uint64_t *drain)
{
	flagstone_status status = domain_writable(d);
	for (int tries = 0; status == FLAGSTONE_OK && tries < ENTRY_TRIES; tries++) {
		uint64_t word = atomic_load(entry_state(d, number));
		uint64_t state = word & FS_EntryStateMask;
		if (GENERATION(word) != generation || state == FS_EntryRetired || state == FS_EntryFree)
			return fail(FLAGSTONE_RETIRED, "drain entry %u: it was retired", number);
		*drain = word;
		if (state == FS_EntryDraining)
			return FLAGSTONE_OK;
		if (state == FS_EntryActive) {
			status = entry_open(d, number, word);
			continue;
		}
		if (state != FS_EntryOpen)
			return fail(FLAGSTONE_STATE, "drain entry %u: its state word is %#llx", number, (unsigned long long)word);
		*drain = ENTRY_WORD(generation, (uint16_t)(entry_upper(word) + 1), FS_EntryDraining);
		if (entry_swap(d, number, word, *drain)) {
			changed(d);
			return FLAGSTONE_OK;
		}
	}
	return status == FLAGSTONE_OK ? fail(FLAGSTONE_BUSY, "drain entry %u: its state word does not stand still", number) : status;
}

static flagstone_status entry_end(struct domain *d, uint32_t number, uint64_t drain, uint64_t state, const char *what)
{
	flagstone_status status = domain_writable(d);
	if (status != FLAGSTONE_OK)
		return status;
	if ((drain & FS_EntryStateMask) != FS_EntryDraining || !entry_swap(d, number, drain, (drain & ~FS_EntryStateMask) | state))
		return fail(FLAGSTONE_STATE, "%s entry %u: its drain %#llx is over, the word is %#llx", what, number, (unsigned long long)drain,
		            (unsigned long long)atomic_load(entry_state(d, number)));
	return FLAGSTONE_OK;
}

static flagstone_status entry_reopen(struct domain *d, uint32_t number, uint64_t drain)
{
	flagstone_status status = entry_end(d, number, drain, FS_EntryOpen, "reopen");
	if (status == FLAGSTONE_OK)
		changed(d);
	return status;
}

static flagstone_status entry_retire(struct domain *d, uint32_t number, uint64_t drain)
{
	struct entry entry;
	bool read = entry_read(d, number, &entry); /* before: afterwards anybody may recycle it */
	flagstone_status status = entry_end(d, number, drain, FS_EntryRetired, "retire");
	if (status == FLAGSTONE_OK && read) {
		entry.word = (drain & ~FS_EntryStateMask) | FS_EntryRetired;
		entry_bury(d, &entry, true);
	}
	return status;
}

/* --- Publishing --- */

static bool mapped_replace(struct domain *d, uint64_t from, uint64_t to)
{
	_Atomic(uint64_t) *mapped = region_words(d->own) + d->shape.held;
	for (uint32_t i = 0; i < d->shape.mapped; i++)
		if (atomic_load(&mapped[i]) == from) {
			atomic_store(&mapped[i], to);
			return true;
		}
	return false;
}

static flagstone_status mapped_list(struct domain *d, uint64_t id)
{
	if (d->read || mapped_replace(d, 0, id))
		return FLAGSTONE_OK;
	return fail(FLAGSTONE_TOOMANYMAPPED, "segment %016llx: the region's list of %u is full", (unsigned long long)id, d->shape.mapped);
}

static void mapped_unlist(struct domain *d, uint64_t id)
{
	if (!d->read)
		mapped_replace(d, id, 0);
}

/* FREE to CREATING, the first one; false: there is none. */
static bool entry_reserve(struct domain *d, struct entry *made)
{
	for (uint32_t i = 0; i < d->shape.entries; i++) {
		uint64_t word = atomic_load(entry_state(d, i));
		uint64_t creating = ENTRY_WORD(GENERATION(word), d->region + 1, FS_EntryCreating);
		if ((word & FS_EntryStateMask) == FS_EntryFree && entry_swap(d, i, word, creating)) {
			made->number = i;
			made->word = creating;
			made->generation = GENERATION(word);
			return true;
		}
	}
	return false;
}

static uint64_t segment_new_id(struct domain *d)
{
	for (;;) { /* a second round has a chance of entries / 2^64 */
		uint64_t id = random_word();
		bool used = false;
		for (uint32_t i = 0; i < d->shape.entries && !used; i++)
			used = atomic_load(&entry_at(d, i)->SegmentID) == id;
		if (!used)
			return id;
	}
}

/* Step 2: the fields, the segment id last. */
static void entry_fill(struct domain *d, struct entry *made)
{
	struct FS_Entry *e = entry_at(d, made->number);
	made->id = segment_new_id(d);
	made->mutex = made->number;
	made->creator = d->token;
	made->created = clock_wall_own();
	if (made->kind == FS_KindSlab && made->stack == 0)
		made->stack = made->id;
	memset(e->hole0, 0, sizeof e->hole0);
	atomic_store(&e->Kind, made->kind);
	atomic_store(&e->Tier, made->tier);
	atomic_store(&e->MutexID, made->mutex);
	atomic_store(&e->Flags, 0);
	atomic_store(&e->Size, made->size);
	atomic_store(&e->Creator, made->creator);
	atomic_store(&e->Created, made->created);
	atomic_store(&e->Stack, made->stack);
	for (int i = 0; i < 4; i++) {
		uint64_t name;
		memcpy(&name, made->name + 8 * i, sizeof name);
		atomic_store(&e->Name[i], name);
		atomic_store(&e->Params[i], made->params[i]);
	}
	atomic_store(&e->SegmentID, made->id);
	bool repair;
	struct lock mutex = mutex_of(d, made->number);
	if (lock_try(d, mutex, true, &repair) == FLAGSTONE_OK)
		lock_give(d, mutex, false);
}

/* Steps 3 and 4: the file, reserved in full, and what is in it. */
static flagstone_status segment_make(struct domain *d, const struct entry *made, segment_fill fill, void *context)
{
	struct segment_name name = segment_name(made->kind, made->id);
	int fd = openat(d->version_fd, name.text, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail_errno("make segment file %s", name.text);
	flagstone_status status = file_reserve(fd, made->size, d->options.group, name.text);
	void *base = MAP_FAILED;
	if (status == FLAGSTONE_OK) {
		base = mmap(NULL, made->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (base == MAP_FAILED)
			status = fail_errno("map segment file %s of %llu bytes", name.text, (unsigned long long)made->size);
	}
	close(fd);
	if (base == MAP_FAILED)
		return status;
	madvise(base, made->size, MADV_DONTFORK);
	status = fault_watch(d, base, made->size);
	if (status == FLAGSTONE_OK && fill)
		status = fill(context, base, made->size, made->id);
	fault_forget(d, base);
	munmap(base, made->size);
	return status == FLAGSTONE_OK ? domain_ready(d) : status;
}

static flagstone_status publish_reserved(struct domain *d, struct entry *made, segment_fill fill, void *context)
{
	pthread_mutex_lock(&d->lists);
	flagstone_status status = mapped_list(d, made->id);
	pthread_mutex_unlock(&d->lists);
	if (status != FLAGSTONE_OK)
		return status;
	status = segment_make(d, made, fill, context);
	uint64_t active = ENTRY_WORD(made->generation, 0, FS_EntryActive);
	if (status == FLAGSTONE_OK && !entry_swap(d, made->number, made->word, active))
		status = fail(FLAGSTONE_STATE, "publish segment %016llx: entry %u was taken back", (unsigned long long)made->id, made->number);
	if (status == FLAGSTONE_OK) {
		made->word = active;
		entry_open(d, made->number, active);
		entry_read(d, made->number, made);
	}
	pthread_mutex_lock(&d->lists);
	mapped_unlist(d, made->id);
	pthread_mutex_unlock(&d->lists);
	return status;
}

static flagstone_status publish(struct domain *d, struct entry *made, segment_fill fill, void *context)
{
	flagstone_status status = domain_writable(d);
	if (status != FLAGSTONE_OK)
		return status;
	if (made->kind == FS_KindNone || (made->kind > FS_KindSlab && made->kind < FS_KindApplication) || made->size == 0 || made->size > INT64_MAX)
		return fail(FLAGSTONE_OPTIONS, "publish: kind %u, %llu bytes", made->kind, (unsigned long long)made->size);
	if (!entry_reserve(d, made)) {
		reap_dead(d);
		entries_finish(d);
		if (!entry_reserve(d, made))
			return fail(FLAGSTONE_NOENTRY, "publish: all %u entries of the directory are taken", d->shape.entries);
	}
	entry_fill(d, made);
	status = publish_reserved(d, made, fill, context);
	if (status != FLAGSTONE_OK && atomic_load(&d->fate) != FLAGSTONE_FORKED)
		entry_undo(d, made);
	return status;
}

/* --- Attaching --- */

struct blanked { /* zeros in the place of a mapping that late lookups may still read */
	struct blanked *next;
	void *base;
	size_t size;
};

static bool entry_still(struct domain *d, const struct entry *entry)
{
	struct entry now;
	return entry_read(d, entry->number, &now) && entry_published(&now) && now.generation == entry->generation && now.id == entry->id;
}

static flagstone_status segment_map(struct domain *d, const struct entry *entry, struct segment *segment)
{
	struct segment_name name = segment_name(entry->kind, entry->id);
	int access = d->read ? O_RDONLY : O_RDWR;
	int fd = openat(d->version_fd, name.text, access | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return entry_still(d, entry) ? fail(FLAGSTONE_MISSING, "attach %s: the file of a published segment is not there", name.text)
		                             : fail(FLAGSTONE_RETIRED, "attach %s: it was retired", name.text);
	if (fd < 0)
		return fail_errno("attach %s", name.text);
	flagstone_status status = file_safe(fd, false, d->options.group, name.text);
	struct stat file;
	if (status == FLAGSTONE_OK && fstat(fd, &file) != 0)
		status = fail_errno("attach %s", name.text);
	if (status == FLAGSTONE_OK && (uint64_t)file.st_size != entry->size)
		status = fail((uint64_t)file.st_size < entry->size ? FLAGSTONE_TRUNCATED : FLAGSTONE_OVERSIZED,
		              "attach %s: the file has %llu bytes, the entry says %llu", name.text, (unsigned long long)file.st_size,
		              (unsigned long long)entry->size);
	if (status == FLAGSTONE_OK) {
		segment->base = mmap(NULL, entry->size, d->read ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (segment->base == MAP_FAILED)
			status = fail_errno("map %s of %llu bytes", name.text, (unsigned long long)entry->size);
	}
	close(fd);
	if (status != FLAGSTONE_OK)
		return status;
	madvise(segment->base, entry->size, MADV_DONTFORK);
	status = fault_watch(d, segment->base, entry->size);
	if (status == FLAGSTONE_OK && !entry_still(d, entry)) {
		fault_forget(d, segment->base);
		status = fail(FLAGSTONE_RETIRED, "attach %s: it was retired meanwhile", name.text);
	}
	if (status != FLAGSTONE_OK)
		munmap(segment->base, entry->size);
	return status;
}

static flagstone_status segment_attach_listed(struct domain *d, const struct entry *entry, struct segment **attached)
{
	for (struct segment *s = d->segments; s; s = s->next)
		if (s->id == entry->id && s->kind == entry->kind && s->size == entry->size) {
			s->users++;
			*attached = s;
			return FLAGSTONE_OK;
		}
	flagstone_status status = mapped_list(d, entry->id);
	if (status != FLAGSTONE_OK)
		return status;
	struct segment *segment = calloc(1, sizeof *segment);
	status = segment ? segment_map(d, entry, segment) : fail(FLAGSTONE_NOMEMORY, "attach segment %016llx", (unsigned long long)entry->id);
	if (status != FLAGSTONE_OK) {
		mapped_unlist(d, entry->id);
		free(segment);
		return status;
	}
	segment->size = entry->size;
	segment->id = entry->id;
	segment->kind = entry->kind;
	segment->users = 1;
	segment->next = d->segments;
	d->segments = segment;
	*attached = segment;
	return FLAGSTONE_OK;
}

static flagstone_status segment_attach(struct domain *d, const struct entry *entry, struct segment **attached)
{
	flagstone_status status = domain_ready(d);
	if (status != FLAGSTONE_OK)
		return status;
	pthread_mutex_lock(&d->lists);
	status = segment_attach_listed(d, entry, attached);
	pthread_mutex_unlock(&d->lists);
	if (status == FLAGSTONE_RETIRED)
		entries_finish(d);
	return status;
}

/* Takes one user off; true if it was the last: the segment is off the domain's list then. */
static bool segment_drop(struct domain *d, struct segment *segment)
{
	if (--segment->users != 0)
		return false;
	for (struct segment **link = &d->segments; *link; link = &(*link)->next)
		if (*link == segment) {
			*link = segment->next;
			break;
		}
	return true;
}

/* Zeros in the place of a mapping that older views may still read; the range is kept until the domain object goes. */
static void segment_zeros(struct domain *d, struct segment *segment)
{
	struct blanked *zeros = calloc(1, sizeof *zeros);
	void *base = mmap(segment->base, segment->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	fault_forget(d, segment->base);
	if (base != MAP_FAILED) {
		madvise(base, segment->size, MADV_DONTFORK);
		mapped_unlist(d, segment->id);
	}
	if (zeros) { /* without memory for the note the range stays until the process ends */
		zeros->base = segment->base;
		zeros->size = segment->size;
		zeros->next = d->blanked;
		d->blanked = zeros;
	}
}

static void segment_end(struct domain *d, struct segment *segment, bool late)
{
	pthread_mutex_lock(&d->lists);
	segment->late = segment->late || late;
	bool last = segment_drop(d, segment), mine = !segment->gone;
	if (last && mine && segment->late) {
		segment_zeros(d, segment);
	} else if (last && mine) {
		fault_forget(d, segment->base);
		munmap(segment->base, segment->size);
		mapped_unlist(d, segment->id);
	}
	pthread_mutex_unlock(&d->lists);
	if (last && mine && domain_ready(d) == FLAGSTONE_OK)
		entries_recycle(d);
	if (last)
		free(segment);
}

static void segment_detach(struct domain *d, struct segment *segment) { segment_end(d, segment, false); }

static void segment_blank(struct domain *d, struct segment *segment) { segment_end(d, segment, true); }
