/* What contradicts itself in a column, found under its lock and left as it is. */

struct check {
	struct column *column;
	uint32_t tier;
	const struct shard *shard;
	unsigned char *record, *named, *listed, *free; /* a bit a cell: part of a record; head named by a slot; in the order; on the free list */
	unsigned char *linked;                         /* a bit an overflow bucket: in a chain or on the free list */
	uint64_t live, used, bytes, small;
	check_report report;
	void *context;
	bool more;
};

static void check_say(struct check *k, const char *format, ...) printf_like(2, 3);
static void check_say(struct check *k, const char *format, ...)
{
	char what[200], text[300];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(what, sizeof what, format, arguments);
	va_end(arguments);
	snprintf(text, sizeof text, "slab %016" PRIx64 " shard %" PRIu32 ": %s", k->column->view->slab[k->tier]->segment, k->shard->number, what);
	k->more = k->more && k->report(k->context, text);
}

/* Marks a bit that must not be marked yet. */
static bool check_mark(unsigned char *bits, uint32_t number)
{
	bool fresh = !taken_get(bits, number);
	if (fresh)
		taken_flip(bits, number);
	return fresh;
}

/* A record's cells. */
static void check_chain(struct check *k, const struct found *found)
{
	const struct shard *s = k->shard;
	uint32_t cells = geometry_cells(s->geometry, found_bytes(found)), cell = found->cell;
	for (uint32_t i = 0; i < cells; i++) {
		if (!cell_exists(s, cell) || (i > 0 && word_get(&cell_at(s, cell)->Version) != version_part(found->version))) {
			check_say(k, "the record of cell %" PRIu32 " is cut after %" PRIu32 " of %" PRIu32 " cells", found->cell, i, cells);
			return;
		}
		if (!check_mark(k->record, cell)) {
			check_say(k, "cell %" PRIu32 " is part of two records", cell);
			return;
		}
		cell = word_get(chain_link(s, cell, i == 0));
	}
}

/* A record's only name, in its chain, and nobody else's key. */
static void check_name(struct check *k, struct found *found)
{
	struct column *c = k->column;
	uint64_t hash;
	_Atomic(uint64_t) *slot;
	if (record_hash(c, found, &hash) != FLAGSTONE_OK)
		return;
	if (index_find(k->shard, hash, found->cell, &slot) != FLAGSTONE_OK || !slot) {
		check_say(k, "no slot names the record of cell %" PRIu32, found->cell);
		return;
	}
	unsigned char *key = malloc(found->key_length + 1u);
	if (!key)
		return;
	struct key same = {key, found->key_length, found->flags, hash};
	struct found other;
	if (record_key(c, found, key) == FLAGSTONE_OK)
		for (uint32_t tier = 0; tier <= k->tier; tier++)
			if (record_find_in(c, tier, &same, &other) != FLAGSTONE_OK || (other.cell != 0 && (tier != k->tier || other.cell != found->cell)))
				check_say(k, "cell %" PRIu32 " has a key that is also in tier %" PRIu32, found->cell, tier);
	free(key);
}

static void check_cells(struct check *k)
{
	const struct shard *s = k->shard;
	uint64_t sequence = word_get(&k->column->top->Sequence);
	if (k->tier == 0 && sequence >= FS_VersionLimit >> FS_VersionSequenceShift)
		check_say(k, "Sequence is %" PRIu64 ", beyond all versions", sequence);
	for (uint32_t cell = 1; cell <= s->geometry->cells && k->more; cell++) {
		uint64_t version = word_get(&cell_at(s, cell)->Version);
		struct found found;
		if (cell > word_get(&s->head->Bump)) {
			if (version != 0)
				check_say(k, "cell %" PRIu32 " above Bump has version 0x%" PRIx64, cell, version);
			continue;
		}
		if (version == 0 || version_garbage(version, s->number)) {
			check_say(k, "cell %" PRIu32 " has version 0x%" PRIx64, cell, version);
			continue;
		}
		if (version_sequence(version) > sequence)
			check_say(k, "cell %" PRIu32 " has sequence %" PRIu64 ", the shard %" PRIu64, cell, version_sequence(version), sequence);
		if (!version_live(version, s->number))
			continue;
		if (!cell_live(s, k->tier, cell, &found) || (found.flags & FS_FlagHashKey && found.key_length != 8)) {
			check_say(k, "the record of cell %" PRIu32 " has impossible lengths", cell);
			continue;
		}
		k->live++;
		k->used += geometry_cells(s->geometry, found_bytes(&found));
		k->bytes += found_bytes(&found);
		check_chain(k, &found);
		check_name(k, &found);
	}
}

/* Every slot names a live head whose hash belongs there. */
static void check_slot(struct check *k, uint32_t bucket, uint64_t name)
{
	const struct shard *s = k->shard;
	uint32_t cell = slot_cell(name);
	struct found found;
	uint64_t hash;
	if (!cell_exists(s, cell) || !cell_live(s, k->tier, cell, &found)) {
		check_say(k, "a slot of bucket %" PRIu32 " names cell %" PRIu32 ", which is no record", bucket, cell);
		return;
	}
	if (!check_mark(k->named, cell))
		check_say(k, "two slots name cell %" PRIu32, cell);
	if (record_hash(k->column, &found, &hash) == FLAGSTONE_OK && (bucket_of(s->geometry, hash) != bucket || slot_make(hash, cell) != name))
		check_say(k, "a slot of bucket %" PRIu32 " names cell %" PRIu32 " of another hash", bucket, cell);
}

static void check_index(struct check *k)
{
	const struct shard *s = k->shard;
	for (uint32_t bucket = 0; bucket < s->geometry->buckets && k->more; bucket++)
		for (struct FS_Bucket *b = &s->buckets[bucket], *next = NULL; b && k->more; b = next) {
			uint64_t link;
			for (unsigned i = 0; i < FS_SlotsPerBucket; i++)
				if (word_get(&b->Slots[i]) != 0)
					check_slot(k, bucket, word_get(&b->Slots[i]));
			next = bucket_next(s, b, &link);
			if (link > s->geometry->overflow || (next && link > word_get(&s->head->OverflowBump)))
				check_say(k, "bucket %" PRIu32 " links to %" PRIu64, bucket, link);
			if (next && !check_mark(k->linked, (uint32_t)link)) {
				check_say(k, "overflow bucket %" PRIu64 " is linked twice", link);
				break;
			}
			if (next && word_get(&next->Link) == 0 && bucket_empty(next))
				check_say(k, "the chain of bucket %" PRIu32 " ends with an empty bucket", bucket);
		}
	uint64_t number = word_get(&s->head->OverflowHead), counted = 0;
	for (; number != 0 && k->more; number = word_get(&s->overflow[number].Link)) {
		if (number > s->geometry->overflow || !check_mark(k->linked, (uint32_t)number) || !bucket_empty(&s->overflow[number])) {
			check_say(k, "overflow bucket %" PRIu64 " of the free list is in use", number);
			break;
		}
	}
	for (uint32_t i = 1; i <= s->geometry->overflow; i++) {
		counted += taken_get(k->linked, i);
		if (i > word_get(&s->head->OverflowBump) && (!bucket_empty(&s->overflow[i]) || word_get(&s->overflow[i].Link) != 0))
			check_say(k, "overflow bucket %" PRIu32 " above OverflowBump is not empty", i);
	}
	if (counted != word_get(&s->head->OverflowBump))
		check_say(k, "%" PRIu64 " overflow buckets are linked or free, OverflowBump is %" PRIu32, counted, (uint32_t)word_get(&s->head->OverflowBump));
}

static uint64_t check_list(struct check *k, bool small)
{
	const struct shard *s = k->shard;
	uint32_t before = 0, cell = word_get(order_front(s, small));
	uint64_t length = 0;
	while (cell != 0 && k->more) {
		struct found found;
		if (!cell_exists(s, cell) || !cell_live(s, k->tier, cell, &found)) {
			check_say(k, "the order has cell %" PRIu32 ", which is no record", cell);
			return length;
		}
		if (!check_mark(k->listed, cell)) {
			check_say(k, "the order has cell %" PRIu32 " twice", cell);
			return length;
		}
		struct FS_CellHeader *h = cell_at(s, cell);
		if (order_prev(h) != before || order_small(h) != small)
			check_say(k, "cell %" PRIu32 " does not name cell %" PRIu32 " before it in its list", cell, before);
		length++;
		before = cell;
		cell = word_get(&h->Next);
	}
	if (word_get(order_back(s, small)) != before)
		check_say(k, "the order ends with cell %" PRIu32 ", not %" PRIu32, before, (uint32_t)word_get(order_back(s, small)));
	return length;
}

static void check_free(struct check *k)
{
	const struct shard *s = k->shard;
	uint64_t length = 0;
	for (uint32_t cell = word_get(&s->head->FreeHead); cell != 0 && k->more; cell = word_get(&cell_at(s, cell)->Chain)) {
		if (!cell_exists(s, cell) || !check_mark(k->free, cell) || taken_get(k->record, cell) ||
		    (word_get(&cell_at(s, cell)->Version) & FS_VersionStateMask) != FS_VersionFree) {
			check_say(k, "cell %" PRIu32 " of the free list is in use", cell);
			return;
		}
		length++;
	}
	if (length + k->used != word_get(&s->head->Bump))
		check_say(k, "%" PRIu64 " cells are free and %" PRIu64 " used, Bump is %" PRIu32, length, k->used, (uint32_t)word_get(&s->head->Bump));
}

static void check_counts(struct check *k, uint64_t listed)
{
	struct FS_Shard *h = k->shard->head;
	struct { const char *name; uint64_t have, want; } counts[] = {
		{"Live", word_get(&h->Live), k->live},          {"Used", word_get(&h->Used), k->used},
		{"Bytes", word_get(&h->Bytes), k->bytes},       {"SmallCount", word_get(&h->SmallCount), k->small},
		{"the order's length", listed, k->live},
	};
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
		if (counts[i].have != counts[i].want)
			check_say(k, "%s is %" PRIu64 ", not %" PRIu64, counts[i].name, counts[i].have, counts[i].want);
}

static flagstone_status check_tier(struct column *c, uint32_t tier, check_report report, void *context, bool *more)
{
	const struct shard *s = column_shard(c, tier);
	size_t cells = s->geometry->cells / 8 + 1, overflow = s->geometry->overflow / 8 + 1;
	unsigned char *bits = calloc(4 * cells + overflow, 1);
	struct check k = {.column = c, .tier = tier, .shard = s, .report = report, .context = context, .more = true};
	if (!bits)
		return fail(FLAGSTONE_NOMEMORY, "no memory to check a shard of %" PRIu32 " cells", s->geometry->cells);
	k.record = bits;
	k.named = bits + cells;
	k.listed = bits + 2 * cells;
	k.free = bits + 3 * cells;
	k.linked = bits + 4 * cells;
	check_cells(&k);
	check_index(&k);
	k.small = check_list(&k, true);
	uint64_t main = check_list(&k, false);
	check_free(&k);
	check_counts(&k, k.small + main);
	free(bits);
	*more = k.more;
	return FLAGSTONE_OK;
}

static flagstone_status slab_check(struct stack *stack, uint64_t deadline, check_report report, void *context)
{
	flagstone_status status = FLAGSTONE_OK;
	bool more = true;
	for (uint32_t number = 0; number < stack->shards && more && status == FLAGSTONE_OK; number++) {
		struct column c;
		status = column_enter(&c, stack, number, deadline);
		if (status != FLAGSTONE_OK)
			return status;
		for (uint32_t tier = 0; tier < c.tiers && more && status == FLAGSTONE_OK; tier++)
			status = check_tier(&c, tier, report, context, &more);
		status = column_leave(&c, status);
	}
	return status;
}
