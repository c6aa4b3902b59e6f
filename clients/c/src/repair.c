/* Putting the control segment right (section 19): what contradicts itself in it, told or mended. */

struct examination {
	struct domain *d;
	bool mend;
	bool (*each)(void *context, const char *text);
	void *context;
	uint64_t found;
	bool over;
};

/* A finding. */
static void printf_like(2, 3) found(struct examination *x, const char *format, ...)
{
	char text[256];
	va_list values;
	va_start(values, format);
	vsnprintf(text, sizeof text, format, values);
	va_end(values);
	x->found++;
	if (x->each && !x->over)
		x->over = !x->each(x->context, text);
}

/* A copy of an entry in any state, FREE and unknown ones too. */
static void entry_raw(struct domain *d, uint32_t number, struct entry *entry)
{
	memset(entry, 0, sizeof *entry);
	entry->number = number;
	entry->word = atomic_load(entry_state(d, number));
	entry->generation = GENERATION(entry->word);
	entry->state = (uint32_t)(entry->word & FS_EntryStateMask);
	entry_copy(entry_at(d, number), entry);
}

static bool is_slab(const struct entry *entry) { return entry->kind == FS_KindSlab; }
static bool kind_known(const struct entry *entry) { return is_slab(entry) || entry->kind >= FS_KindApplication; }
static bool entry_file(struct domain *d, const struct entry *entry)
{
	return entry->id != 0 && kind_known(entry) && segment_file_exists(d, entry->kind, entry->id);
}

/* Another entry, not FREE, for which want holds; its number, or entries. */
static uint32_t entry_other(struct domain *d, const struct entry *entry, bool (*want)(const struct entry *one, const struct entry *other))
{
	struct entry other;
	for (uint32_t i = 0; i < d->shape.entries; i++)
		if (i != entry->number && entry_read(d, i, &other) && other.state <= FS_EntryRetired && want(entry, &other))
			return i;
	return d->shape.entries;
}

static bool of_one_file(const struct entry *one, const struct entry *other)
{
	return one->id == other->id && is_slab(one) == is_slab(other);
}

static bool of_one_name(const struct entry *one, const struct entry *other)
{
	return is_slab(one) && is_slab(other) && entry_published(other) && other->stack == other->id && one->name_length == other->name_length &&
	       memcmp(one->name, other->name, one->name_length) == 0;
}

/* one is a tier of the stack whose tier 0 is the other. */
static bool of_its_stack(const struct entry *one, const struct entry *other)
{
	return is_slab(other) && entry_published(other) && other->id == one->stack && other->tier == 0;
}

/* The pages first, so that nobody finds by an older view what newer ones have left out; the file last. */
static void give_up(struct examination *x, const struct entry *entry)
{
	struct domain *d = x->d;
	if (!x->mend)
		return;
	bool shared = entry->id != 0 && entry_other(d, entry, of_one_file) < d->shape.entries;
	bool file = !shared && entry_file(d, entry);
	if (file)
		segment_punch(d, entry->kind, entry->id);
	if (entry_swap(d, entry->number, entry->word, entry_freed(entry->word)))
		changed_quietly(d);
	if (file)
		segment_unlink(d, entry->kind, entry->id);
}

static void entry_set_open(struct examination *x, const struct entry *entry)
{
	if (x->mend && entry_swap(x->d, entry->number, entry->word,
	                          ENTRY_WORD(entry->generation, entry->state == FS_EntryDraining ? entry->drains : 0, FS_EntryOpen)))
		changed_quietly(x->d);
}

/* FREE or in no known state. */
static void examine_unpublished(struct examination *x, struct entry *entry)
{
	struct domain *d = x->d;
	bool free = entry->state == FS_EntryFree;
	if (!entry_file(d, entry) || (free && entry_other(d, entry, of_one_file) < d->shape.entries)) {
		if (!free) {
			found(x, "entry %u: its state word %#llx is none that is known, and it has no file", entry->number, (unsigned long long)entry->word);
			give_up(x, entry);
		}
		return;
	}
	struct entry again;
	entry_raw(d, entry->number, &again);
	if (again.word != entry->word || again.id != entry->id)
		return; /* somebody is at it */
	found(x, "entry %u: its state word is %#llx, though the file of segment %016llx is there", entry->number, (unsigned long long)entry->word,
	      (unsigned long long)entry->id);
	bool keep = is_slab(entry) ? entry->tier == 0 && entry->stack == entry->id : true;
	if (keep && entry_other(d, entry, of_one_name) == d->shape.entries && entry_other(d, entry, of_one_file) == d->shape.entries)
		entry_set_open(x, entry);
	else
		give_up(x, entry);
}

static bool segment_unnamed(struct domain *d, uint32_t kind, uint64_t id)
{
	return id != 0 && segment_file_exists(d, kind, id) && !segment_named(d, id, kind);
}

/* A published entry without its file. */
static void examine_missing(struct examination *x, struct entry *entry)
{
	struct domain *d = x->d;
	struct FS_Entry *e = entry_at(d, entry->number);
	found(x, "entry %u: the file of segment %016llx is not there", entry->number, (unsigned long long)entry->id);
	uint32_t other_kind = is_slab(entry) ? (uint32_t)FS_KindApplication : (uint32_t)FS_KindSlab;
	bool mended = true;
	if (segment_unnamed(d, other_kind, entry->id)) {
		if (x->mend)
			atomic_store(&e->Kind, other_kind);
	} else if (entry->tier == 0 && entry->stack != entry->id && segment_unnamed(d, FS_KindSlab, entry->stack)) {
		if (x->mend) {
			atomic_store(&e->Kind, (uint32_t)FS_KindSlab);
			atomic_store(&e->SegmentID, entry->stack);
		}
	} else {
		give_up(x, entry);
		mended = false;
	}
	if (x->mend && mended)
		changed_quietly(d);
}

static bool slab_page_good(struct domain *d, const struct entry *entry)
{
	struct segment *segment;
	struct owner owner = {.segment = entry->id, .uuid = {d->uuid[0], d->uuid[1]}, .seed = d->hash_seed};
	if (segment_attach(d, entry, &segment) != FLAGSTONE_OK)
		return false;
	bool good = page_check(segment->base, segment->size, &owner) == FLAGSTONE_OK;
	segment_detach(d, segment);
	return good;
}

static void examine_size(struct examination *x, struct entry *entry)
{
	struct stat file;
	if (fstatat(x->d->version_fd, segment_name(entry->kind, entry->id).text, &file, AT_SYMLINK_NOFOLLOW) != 0 ||
	    (uint64_t)file.st_size == entry->size)
		return;
	found(x, "entry %u: it says %llu bytes, the file has %llu", entry->number, (unsigned long long)entry->size, (unsigned long long)file.st_size);
	if (x->mend) {
		entry->size = (uint64_t)file.st_size;
		atomic_store(&entry_at(x->d, entry->number)->Size, entry->size);
		changed_quietly(x->d);
	}
}

static void examine_slab(struct examination *x, struct entry *entry)
{
	struct domain *d = x->d;
	struct FS_Entry *e = entry_at(d, entry->number);
	if (entry->tier == 0 && entry->stack != entry->id) {
		bool stray = entry_other(d, entry, of_its_stack) < d->shape.entries;
		found(x, "entry %u: a tier 0 whose stack is %016llx, not its own id %016llx", entry->number, (unsigned long long)entry->stack,
		      (unsigned long long)entry->id);
		if (stray) {
			give_up(x, entry);
			return;
		}
		entry->stack = entry->id;
		if (x->mend) {
			atomic_store(&e->Stack, entry->id);
			changed_quietly(d);
		}
	}
	if (entry->tier != 0 && entry->stack == entry->id) {
		found(x, "entry %u: its stack is itself, and its tier %u, not 0", entry->number, entry->tier);
		entry->tier = 0;
		if (x->mend) {
			atomic_store(&e->Tier, 0);
			changed_quietly(d);
		}
	}
	bool page = slab_page_good(d, entry);
	if (atomic_load(&e->State) != entry->word) /* pairs with whoever retires it meanwhile */
		return;
	if (!page)
		found(x, "entry %u: the first page of slab %016llx is damaged: %s", entry->number, (unsigned long long)entry->id, flagstone_error_text());
	if (entry->tier == 0)
		return; /* nothing but destroying the domain helps */
	bool stack = entry_other(d, entry, of_its_stack) < d->shape.entries;
	if (!stack)
		found(x, "entry %u: tier %u of stack %016llx, which has no tier 0", entry->number, entry->tier, (unsigned long long)entry->stack);
	if (!page || !stack)
		give_up(x, entry);
}

/* One that is CREATING or published. */
static void examine_entry(struct examination *x, struct entry *entry)
{
	struct domain *d = x->d;
	uint32_t twin = entry->id ? entry_other(d, entry, of_one_file) : d->shape.entries;
	if (twin < entry->number) {
		found(x, "entry %u: of the same segment %016llx as entry %u", entry->number, (unsigned long long)entry->id, twin);
		give_up(x, entry);
	} else if (entry->state == FS_EntryCreating) {
		uint32_t creator = (uint32_t)entry_upper(entry->word) - 1;
		if (creator < d->shape.regions)
			return;
		found(x, "entry %u: CREATING by region %d, which does not exist", entry->number, (int)creator);
		give_up(x, entry);
	} else if (entry->state == FS_EntryRetired) {
		return;
	} else if (!entry_file(d, entry)) {
		if (atomic_load(entry_state(d, entry->number)) == entry->word)
			examine_missing(x, entry);
	} else {
		examine_size(x, entry);
		if (is_slab(entry))
			examine_slab(x, entry);
	}
}

/* The primary slab is OPEN, and there is one. */
static void examine_primary(struct examination *x)
{
	struct domain *d = x->d;
	struct entry entry, only = {.number = 0};
	uint32_t tops = 0;
	bool primary = false;
	for (uint32_t i = 0; i < d->shape.entries; i++) {
		if (!entry_read(d, i, &entry) || !entry_published(&entry) || !is_slab(&entry) || entry.tier != 0 || entry.stack != entry.id)
			continue;
		only = entry;
		tops++;
		if (entry.name_length != 7 || memcmp(entry.name, "primary", 7) != 0)
			continue;
		primary = true;
		if (entry.state == FS_EntryDraining) {
			found(x, "entry %u: the primary slab is DRAINING", i);
			entry_set_open(x, &entry);
		}
	}
	if (primary || tops != 1 || x->found != 0)
		return;
	found(x, "entry %u: the only tier 0 is not named primary", only.number);
	if (x->mend) {
		uint64_t name[4] = {0};
		memcpy(name, "primary", 7);
		for (int i = 0; i < 4; i++)
			atomic_store(&entry_at(d, only.number)->Name[i], name[i]);
		changed_quietly(d);
	}
}

static void examine_header(struct examination *x)
{
	struct domain *d = x->d;
	uint64_t seen[sizeof d->header_seen / 8];
	_Atomic(uint64_t) *words = (_Atomic(uint64_t) *)(void *)d->header;
	bool differs = false;
	memcpy(seen, d->header_seen, sizeof seen);
	for (size_t i = 0; i < sizeof seen / sizeof seen[0]; i++)
		differs |= atomic_load(&words[i]) != seen[i];
	uint64_t ready = atomic_load(&d->header->Ready);
	if (!differs && (ready == FS_ControlReady || ready == FS_ControlDestroyed))
		return;
	found(x, "control: the header is not what it was when the domain was opened");
	if (!x->mend)
		return;
	for (size_t i = 0; i < sizeof seen / sizeof seen[0]; i++)
		atomic_store(&words[i], seen[i]);
	if (ready != FS_ControlDestroyed)
		atomic_store(&d->header->Ready, FS_ControlReady);
}

static void examine_regions(struct examination *x)
{
	struct domain *d = x->d;
	for (uint32_t i = 0; i < d->shape.regions; i++) {
		uint64_t word = atomic_load(&region_at(d, i)->State);
		if (REGION_STATE(word) > FS_RegionReaping)
			found(x, "region %u: its state word %#llx is none that is known", i, (unsigned long long)word);
	}
}

static void examine_orphans(struct examination *x)
{
	struct orphans o = {NULL, NULL, 0, 0};
	names_each(x->d->version_fd, orphans_each, &o);
	for (size_t i = 0; i < o.count; i++) {
		if (segment_named(x->d, o.ids[i], o.kinds[i]) || !segment_file_exists(x->d, o.kinds[i], o.ids[i]))
			continue;
		found(x, "%s: a file that no entry names", segment_name(o.kinds[i], o.ids[i]).text);
		if (x->mend) {
			segment_punch(x->d, o.kinds[i], o.ids[i]);
			segment_unlink(x->d, o.kinds[i], o.ids[i]);
		}
	}
	free(o.ids);
	free(o.kinds);
}

static void examine(struct examination *x)
{
	struct domain *d = x->d;
	struct entry entry;
	examine_header(x);
	examine_regions(x);
	for (uint32_t i = 0; i < d->shape.entries; i++) {
		entry_raw(d, i, &entry);
		if (entry.state == FS_EntryFree || entry.state > FS_EntryRetired)
			examine_unpublished(x, &entry);
	}
	for (uint32_t i = 0; i < d->shape.entries; i++)
		if (entry_read(d, i, &entry) && entry.state <= FS_EntryRetired)
			examine_entry(x, &entry);
	examine_primary(x);
	examine_orphans(x);
}

static void control_check(struct domain *d, bool (*each)(void *context, const char *text), void *context)
{
	struct examination x = {d, false, each, context, 0, false};
	if (domain_ready(d) == FLAGSTONE_OK)
		examine(&x);
}

static flagstone_status control_repair(struct domain *d, uint64_t *mended)
{
	struct examination x = {d, true, NULL, NULL, 0, false};
	flagstone_status status = exclusive_begin(d, deadline_in(d->options.patience ? d->options.patience : OPEN_PATIENCE));
	if (status != FLAGSTONE_OK)
		return status;
	examine(&x);
	exclusive_end(d);
	region_put_right(d);
	reap_dead(d);
	if (x.found)
		changed_quietly(d);
	for (uint32_t i = 0; i < d->shape.regions; i++)
		if (i != d->region && REGION_STATE(atomic_load(&region_at(d, i)->State)) != FS_RegionFree)
			doorbell_ring(d, i, FS_ReasonTable | FS_ReasonLocks);
	doorbell_self(d, FS_ReasonTable | FS_ReasonLocks);
	if (mended)
		*mended = x.found;
	return domain_ready(d);
}
