/* A column made anew from its cells, in every tier (PROTOCOL.md, 17). */

struct survivor {
	struct found found;
	uint64_t hash, age;  /* age: what the order goes by */
};

struct rebuild {
	struct column *column;
	struct survivor *survivors;
	size_t count, capacity;
	unsigned char *taken[FS_MaxTiers]; /* a bit a cell: part of a record */
	uint64_t sequence;                 /* the highest seen */
};

static inline bool taken_get(const unsigned char *taken, uint32_t cell) { return taken[cell / 8] >> cell % 8 & 1; }
static inline void taken_flip(unsigned char *taken, uint32_t cell) { taken[cell / 8] ^= (unsigned char)(1 << cell % 8); }

/* Marks, or unmarks, up to `count` cells of a record; how many it could. */
static uint32_t rebuild_take(struct rebuild *r, const struct found *found, uint32_t count, bool take)
{
	const struct shard *s = column_shard(r->column, found->tier);
	unsigned char *taken = r->taken[found->tier];
	uint32_t cell = found->cell, done = 0;
	while (done < count) {
		bool head = cell == found->cell;
		if (!cell_exists(s, cell) || taken_get(taken, cell) == take ||
		    (done > 0 && word_get(&cell_at(s, cell)->Version) != version_part(found->version)))
			break;
		taken_flip(taken, cell);
		done++;
		cell = word_get(chain_link(s, cell, head));
	}
	return done;
}

static void rebuild_give(const struct shard *s, uint32_t cell)
{
	struct FS_CellHeader *h = cell_at(s, cell);
	uint64_t version = word_get(&h->Version);
	atomic_store(&h->Version, version == 0 || version_garbage(version, s->number) ? version_free(version_make(0, s->number)) : version_free(version));
}

/* A live head that is whole: its cells are marked. */
static bool rebuild_whole(struct rebuild *r, const struct found *found)
{
	const struct shard *s = column_shard(r->column, found->tier);
	uint32_t cells = geometry_cells(s->geometry, found_bytes(found));
	if (found->flags & FS_FlagHashKey && found->key_length != 8)
		return false;
	uint32_t done = rebuild_take(r, found, cells, true);
	if (done == cells)
		return true;
	rebuild_take(r, found, done, false);
	return false;
}

/* Step 2 for a stamp from the future. */
static uint64_t rebuild_stamp(struct rebuild *r, struct FS_CellHeader *h)
{
	uint64_t now = r->column->now, recency = atomic_load(&h->Recency);
	if (recency_stamp(recency) <= now + FS_ClockLeapMillis)
		return recency;
	uint64_t mended = recency_make(now, recency_turn(recency), recency_count(recency));
	return atomic_compare_exchange_strong(&h->Recency, &recency, mended) ? mended : recency;
}

static flagstone_status rebuild_add(struct rebuild *r, const struct found *found)
{
	if (r->count == r->capacity) {
		size_t capacity = r->capacity ? 2 * r->capacity : 256;
		struct survivor *more = realloc(r->survivors, capacity * sizeof *more);
		if (!more)
			return fail(FLAGSTONE_NOMEMORY, "no memory to rebuild a shard of %zu records", r->count);
		r->survivors = more;
		r->capacity = capacity;
	}
	struct survivor *survivor = &r->survivors[r->count++];
	survivor->found = *found;
	survivor->age = recency_stamp(found->recency);
	if (found->flags & FS_FlagNamespace && !(found->flags & FS_FlagClaim))
		survivor->age += FS_ClockSlackMillis + r->column->stack->stamp_millis;
	return record_hash(r->column, found, &survivor->hash);
}

/* Step 2. */
static flagstone_status rebuild_read(struct rebuild *r, uint32_t tier)
{
	const struct shard *s = column_shard(r->column, tier);
	uint32_t bump = 0;
	r->taken[tier] = calloc(s->geometry->cells / 8 + 1, 1);
	if (!r->taken[tier])
		return fail(FLAGSTONE_NOMEMORY, "no memory to rebuild a shard of %" PRIu32 " cells", s->geometry->cells);
	for (uint32_t cell = 1; cell <= s->geometry->cells; cell++) {
		struct FS_CellHeader *h = cell_at(s, cell);
		uint64_t version = word_get(&h->Version);
		struct found found;
		if (version == 0)
			continue;
		bump = cell;
		if (version_garbage(version, s->number)) {
			rebuild_give(s, cell);
			continue;
		}
		if (version_sequence(version) > r->sequence)
			r->sequence = version_sequence(version);
		if ((version & FS_VersionStateMask) != FS_VersionLive)
			continue;
		if (!cell_live(s, tier, cell, &found) || !rebuild_whole(r, &found)) {
			rebuild_give(s, cell);
			shard_count(&s->head->Dropped, 1);
			continue;
		}
		found.recency = rebuild_stamp(r, h);
		flagstone_status status = rebuild_add(r, &found);
		if (status != FLAGSTONE_OK)
			return status;
	}
	word_set(&s->head->Bump, bump);
	return FLAGSTONE_OK;
}

#define BY(a, b) if ((a) != (b)) return (a) < (b) ? -1 : 1

/* Possible twins beside each other, the one that stays first. */
static int rebuild_by_key(const void *left, const void *right)
{
	const struct survivor *a = left, *b = right;
	BY(a->hash, b->hash);
	BY(a->found.flags, b->found.flags);
	BY(a->found.key_length, b->found.key_length);
	BY(b->found.version, a->found.version);
	BY(a->found.tier, b->found.tier);
	BY(a->found.cell, b->found.cell);
	return 0;
}

static int rebuild_by_version(const void *left, const void *right)
{
	const struct survivor *a = left, *b = right;
	BY(a->found.version, b->found.version);
	BY(b->found.tier, a->found.tier);
	return 0;
}

static int rebuild_by_age(const void *left, const void *right)
{
	const struct survivor *a = left, *b = right;
	BY(a->age, b->age);
	BY(a->found.version, b->found.version);
	return 0;
}

#undef BY

static bool rebuild_twins(struct rebuild *r, const struct survivor *a, const struct survivor *b)
{
	const struct found *x = &a->found, *y = &b->found;
	const struct shard *s = column_shard(r->column, x->tier), *t = column_shard(r->column, y->tier);
	struct chain left = chain_at(s, x->cell, x->version, found_bytes(x)), right = chain_at(t, y->cell, y->version, found_bytes(y));
	unsigned char bytes[256];
	for (uint32_t done = 0; done < x->key_length;) {
		uint32_t piece = x->key_length - done < sizeof bytes ? x->key_length - done : (uint32_t)sizeof bytes;
		if (!chain_read(&left, x->cell, bytes, piece) || !chain_equal(&right, y->cell, bytes, piece))
			return false;
		done += piece;
	}
	return true;
}

/* Step 3: what is not to stay gets cell 0 and goes to the end. */
static void rebuild_dedup(struct rebuild *r)
{
	if (r->count)
		qsort(r->survivors, r->count, sizeof *r->survivors, rebuild_by_key);
	size_t kept = 0;
	for (size_t i = 0, begin = 0; i < r->count; i++) {
		struct survivor *here = &r->survivors[i];
		bool twin = false;
		if (kept > begin) { /* the run of what may be twins, of which the kept ones stand at begin ... kept - 1 */
			struct survivor *run = &r->survivors[begin];
			if (run->hash != here->hash || run->found.flags != here->found.flags || run->found.key_length != here->found.key_length)
				begin = kept;
		}
		for (size_t j = begin; j < kept && !twin; j++)
			twin = rebuild_twins(r, &r->survivors[j], here);
		if (!twin) {
			r->survivors[kept++] = *here;
			continue;
		}
		const struct shard *s = column_shard(r->column, here->found.tier);
		rebuild_take(r, &here->found, geometry_cells(s->geometry, found_bytes(&here->found)), false);
		rebuild_give(s, here->found.cell);
	}
	r->count = kept;
}

/* Step 5, the exception: new numbers for all, in their order; tails first, the head last. */
static void rebuild_renumber(struct rebuild *r)
{
	if (r->count)
		qsort(r->survivors, r->count, sizeof *r->survivors, rebuild_by_version);
	uint64_t sequence = random_word() >> 16;
	for (size_t i = 0; i < r->count; i++) {
		struct found *found = &r->survivors[i].found;
		const struct shard *s = column_shard(r->column, found->tier);
		uint64_t version = version_make(++sequence, s->number);
		uint32_t cell = word_get(&cell_at(s, found->cell)->Chain);
		for (uint32_t left = geometry_cells(s->geometry, found_bytes(found)) - 1; left > 0; left--) {
			atomic_store(&cell_at(s, cell)->Version, version_part(version));
			cell = word_get(chain_link(s, cell, false));
		}
		atomic_store(&cell_at(s, found->cell)->Version, version);
		found->version = version;
	}
	for (uint32_t tier = 0; tier < r->column->tiers; tier++) {
		const struct shard *s = column_shard(r->column, tier);
		for (uint32_t cell = 1; cell <= word_get(&s->head->Bump); cell++)
			if (!taken_get(r->taken[tier], cell))
				atomic_store(&cell_at(s, cell)->Version, version_free(version_make(0, s->number)));
	}
	r->sequence = sequence;
}

static void rebuild_clear(const struct shard *s)
{
	struct FS_Shard *head = s->head;
	for (uint32_t i = 0; i < s->geometry->buckets + s->geometry->overflow; i++) {
		for (unsigned slot = 0; slot < FS_SlotsPerBucket; slot++)
			atomic_store(&s->buckets[i].Slots[slot], 0);
		atomic_store(&s->buckets[i].Link, 0);
	}
	word_set(&head->OverflowHead, 0);
	word_set(&head->OverflowBump, 0);
	word_set(&head->Front, 0);
	word_set(&head->Back, 0);
	word_set(&head->SmallFront, 0);
	word_set(&head->SmallBack, 0);
	word_set(&head->SmallCount, 0);
	word_set(&head->Live, 0);
	word_set(&head->Used, 0);
	word_set(&head->Bytes, 0);
	word_set(&head->FreeHead, 0);
}

/* Step 4 for one record, older than all that come after it. */
static flagstone_status rebuild_enter(struct rebuild *r, const struct survivor *survivor)
{
	const struct found *found = &survivor->found;
	const struct shard *s = column_shard(r->column, found->tier);
	struct place place;
	flagstone_status status = index_place(s, survivor->hash, &place);
	if (status != FLAGSTONE_OK)
		return status;
	index_name(&place, survivor->hash, found->cell);
	word_set(&s->head->Live, word_get(&s->head->Live) + 1);
	word_set(&s->head->Used, word_get(&s->head->Used) + geometry_cells(s->geometry, found_bytes(found)));
	word_set(&s->head->Bytes, word_get(&s->head->Bytes) + found_bytes(found));
	return order_push(s, found->cell, found->small && order_s3fifo(s));
}

static flagstone_status rebuild_run(struct rebuild *r)
{
	struct column *c = r->column;
	uint64_t sequence = word_get(&c->top->Sequence);
	flagstone_status status = FLAGSTONE_OK;
	r->sequence = sequence < FS_VersionLimit >> FS_VersionSequenceShift ? sequence : 0;
	for (uint32_t tier = 0; tier < c->tiers && status == FLAGSTONE_OK; tier++)
		status = rebuild_read(r, tier);
	if (status != FLAGSTONE_OK)
		return status;
	rebuild_dedup(r);
	if (r->sequence >= FS_VersionHigh >> FS_VersionSequenceShift)
		rebuild_renumber(r);
	for (uint32_t tier = 0; tier < c->tiers; tier++)
		rebuild_clear(column_shard(c, tier));
	if (r->count > 0)
		qsort(r->survivors, r->count, sizeof *r->survivors, rebuild_by_age);
	for (size_t i = 0; i < r->count && status == FLAGSTONE_OK; i++)
		status = rebuild_enter(r, &r->survivors[i]);
	for (uint32_t tier = 0; tier < c->tiers; tier++) {
		const struct shard *s = column_shard(c, tier);
		for (uint32_t cell = shard_cells(s); cell >= 1; cell--)
			if (!taken_get(r->taken[tier], cell)) {
				rebuild_give(s, cell);
				cell_give(s, cell);
			}
	}
	word_set(&c->top->Sequence, r->sequence);
	return status;
}

static flagstone_status column_rebuild(struct column *c)
{
	struct rebuild r = {.column = c};
	atomic_fetch_or(&c->top->Epoch, FS_EpochRebuilding); /* lookups begin again; first of all (rebuild.pml BREAK_EPOCH_FIRST) */
	flagstone_status status = rebuild_run(&r);
	free(r.survivors);
	for (uint32_t tier = 0; tier < c->tiers; tier++)
		free(r.taken[tier]);
	c->broken = status != FLAGSTONE_OK;
	if (status != FLAGSTONE_OK)
		return status;
	shard_count(&c->top->Rebuilds, 1);
	count(c->stack->domain, FS_CounterRebuilds, 1);
	uint64_t epoch = atomic_load(&c->top->Epoch);
	atomic_store(&c->top->Epoch, (epoch & ~FS_EpochRebuildMask) | ((epoch + 1) & FS_EpochRebuildMask)); /* last (BREAK_EPOCH_LAST) */
	return FLAGSTONE_OK;
}
