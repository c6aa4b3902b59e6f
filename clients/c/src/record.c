/* Records of a column, under its lock: find, make room, store, move, remove (PROTOCOL.md, 14 and 20, Moves). */

static struct key key_make(const struct stack *stack, const void *bytes, size_t length, uint32_t flags)
{
	struct key key = {bytes, length > UINT32_MAX ? UINT32_MAX : (uint32_t)length, flags, 0};
	if (flags & FS_FlagHashKey && length == 8) {
		uint64_t own;
		memcpy(&own, bytes, sizeof own);
		key.hash = hash_mix(own ^ stack->seed);
	} else if (length <= FS_MaxKeyLength) {
		key.hash = hash_xxh3(bytes, length, stack->seed);
	}
	return key;
}

/* --- What a record says of itself --- */

static flagstone_status record_read(struct column *c, const struct found *found, uint64_t from, void *to, uint64_t bytes)
{
	const struct shard *s = column_shard(c, found->tier);
	struct chain chain = chain_at(s, found->cell, found->version, found_bytes(found));
	if (chain_read(&chain, found->cell, NULL, from) && chain_read(&chain, found->cell, to, bytes))
		return FLAGSTONE_OK;
	return broken(s, "a record's chain is cut", found->cell);
}

static flagstone_status record_key(struct column *c, const struct found *found, void *to)
{
	return record_read(c, found, 0, to, found->key_length);
}

static flagstone_status record_value(struct column *c, const struct found *found, uint32_t from, void *to, uint32_t bytes)
{
	return record_read(c, found, (uint64_t)found->key_length + from, to, bytes);
}

static uint64_t hash_of(const struct stack *stack, const void *bytes, uint32_t length, uint32_t flags)
{
	return key_make(stack, bytes, length, flags).hash;
}

/* Long keys in a frame of their own, so that others need no large one. */
static __attribute__((noinline)) flagstone_status record_hash_long(struct column *c, const struct found *found, uint64_t *hash)
{
	unsigned char bytes[FS_MaxKeyLength];
	flagstone_status status = record_key(c, found, bytes);
	*hash = status == FLAGSTONE_OK ? hash_of(c->stack, bytes, found->key_length, found->flags) : 0;
	return status;
}

static flagstone_status record_hash(struct column *c, const struct found *found, uint64_t *hash)
{
	unsigned char bytes[256];
	if (found->key_length > sizeof bytes)
		return record_hash_long(c, found, hash);
	flagstone_status status = record_key(c, found, bytes);
	*hash = status == FLAGSTONE_OK ? hash_of(c->stack, bytes, found->key_length, found->flags) : 0;
	return status;
}

static bool record_same(const struct shard *s, const struct found *found, const struct key *key)
{
	struct chain chain = chain_at(s, found->cell, found->version, found_bytes(found));
	return found->key_length == key->length && found->flags == key->flags && chain_equal(&chain, found->cell, key->bytes, key->length);
}

static flagstone_status record_locate(struct column *c, struct found *found)
{
	const struct shard *s = column_shard(c, found->tier);
	struct found now;
	uint64_t hash;
	if (!cell_live(s, found->tier, found->cell, &now) || now.version != found->version)
		return FLAGSTONE_NO;
	flagstone_status status = record_hash(c, &now, &hash);
	if (status == FLAGSTONE_OK)
		status = index_find(s, hash, found->cell, &now.slot);
	if (status == FLAGSTONE_OK && !now.slot)
		return broken(s, "no slot names a live record", found->cell);
	*found = now;
	return status;
}

/* --- Chains, slot by slot --- */

static void chain_begin(const struct shard *s, uint32_t bucket, struct chain_walk *walk)
{
	*walk = (struct chain_walk){&s->buckets[bucket], 0, s->geometry->overflow + 1};
}

static bool chain_next(const struct column *c, uint32_t tier, struct chain_walk *walk, struct found *found)
{
	const struct shard *s = column_shard(c, tier);
	uint64_t link;
	while (walk->bucket) {
		while (walk->slot < FS_SlotsPerBucket) {
			_Atomic(uint64_t) *slot = &walk->bucket->Slots[walk->slot++];
			uint32_t cell = slot_cell(word_get(slot));
			if (cell_exists(s, cell) && cell_live(s, tier, cell, found)) {
				found->slot = slot;
				return true;
			}
		}
		walk->bucket = --walk->steps == 0 ? NULL : bucket_next(s, walk->bucket, &link);
		walk->slot = 0;
	}
	return false;
}

/* The record of a key in one tier. */
static flagstone_status record_find_in(struct column *c, uint32_t tier, const struct key *key, struct found *found)
{
	const struct shard *s = column_shard(c, tier);
	struct FS_Bucket *b = &s->buckets[bucket_of(s->geometry, key->hash)];
	uint32_t steps = s->geometry->overflow + 1;
	flagstone_status status = FLAGSTONE_OK;
	found->cell = 0;
	for (; b && status == FLAGSTONE_OK; status = bucket_follow(s, &b, &steps))
		for (unsigned i = 0; i < FS_SlotsPerBucket; i++) {
			uint64_t slot = word_get(&b->Slots[i]);
			struct found here;
			if (slot == 0 || slot >> FS_SlotTagShift != key->hash >> FS_SlotTagShift)
				continue;
			if (!cell_exists(s, slot_cell(slot)) || !cell_live(s, tier, slot_cell(slot), &here))
				return broken(s, "a slot names no live record", slot);
			if (!record_same(s, &here, key))
				continue;
			if (found->cell != 0)
				return broken(s, "two records of one key", slot_cell(slot));
			*found = here;
			found->slot = &b->Slots[i];
		}
	return status;
}

static flagstone_status record_find(struct column *c, const struct key *key, struct found *found)
{
	flagstone_status status = FLAGSTONE_OK;
	found->cell = 0;
	for (uint32_t tier = 0; tier < c->tiers && status == FLAGSTONE_OK; tier++) {
		struct found here;
		if (key->length > c->view->slab[tier]->geometry.max_key)
			continue;
		status = record_find_in(c, tier, key, &here);
		if (status != FLAGSTONE_OK || here.cell == 0)
			continue;
		if (found->cell == 0)
			*found = here;
		else
			status = record_remove(c, &here); /* the upper one stays (tiers.pml BREAK_DELETE_ORDER) */
	}
	return status;
}

/* --- Free and Delete --- */

/* 14, Free, after the record has left index and order. */
static flagstone_status record_free(const struct shard *s, const struct found *found)
{
	struct FS_Shard *head = s->head;
	uint32_t cells = geometry_cells(s->geometry, found_bytes(found));
	struct chain chain = chain_at(s, found->cell, found->version, found_bytes(found));
	if (word_get(&head->Live) == 0 || word_get(&head->Used) < cells || word_get(&head->Bytes) < found_bytes(found))
		return broken(s, "the counts are less than a record", found->cell);
	uint32_t next = word_get(&cell_at(s, found->cell)->Chain);
	atomic_store(&cell_at(s, found->cell)->Version, version_free(found->version)); /* a lookup's second load of the version sees it */
	cell_give(s, found->cell);
	for (uint32_t left = cells - 1; left > 0; left--) {
		uint32_t tail = next;
		if (!cell_exists(s, tail) || word_get(&cell_at(s, tail)->Version) != version_part(chain.version))
			return broken(s, "a record's chain is cut", found->cell);
		next = word_get(chain_link(s, tail, false));
		atomic_store(&cell_at(s, tail)->Version, version_free(found->version));
		cell_give(s, tail);
	}
	word_set(&head->Live, word_get(&head->Live) - 1);
	word_set(&head->Used, word_get(&head->Used) - cells);
	word_set(&head->Bytes, word_get(&head->Bytes) - found_bytes(found));
	return FLAGSTONE_OK;
}

static void epoch_removal(struct column *c, uint32_t tier)
{
	if (tier > 0)
		atomic_fetch_add(&c->top->Epoch, FS_EpochRemoval); /* before the removal (tiers.pml BREAK_COUNT_LATE); a miss compares */
}

/* Within the lower half. */
static void epoch_move(struct column *c)
{
	uint64_t epoch = atomic_load(&c->top->Epoch);
	atomic_store(&c->top->Epoch, (epoch & ~FS_EpochRebuildMask) | ((epoch + FS_EpochMove) & FS_EpochRebuildMask));
}

static flagstone_status record_remove(struct column *c, const struct found *found)
{
	const struct shard *s = column_shard(c, found->tier);
	uint64_t hash;
	flagstone_status status = record_hash(c, found, &hash);
	if (status != FLAGSTONE_OK)
		return status;
	if (!found->slot || word_get(found->slot) != slot_make(hash, found->cell))
		return broken(s, "a record's slot names another", found->cell);
	epoch_removal(c, found->tier);
	atomic_store(&cell_at(s, found->cell)->Version, version_free(found->version)); /* this is the moment */
	status = index_clear(s, hash, found->slot);
	if (status == FLAGSTONE_OK)
		status = order_unlink(s, found->cell);
	return status == FLAGSTONE_OK ? record_free(s, found) : status;
}

/* --- Set and move: a copy in a tier --- */

/* What is to be written: bytes of the caller's, or those of a record of the column. */
struct source {
	struct found like;              /* lengths, flags, expiry, tag; version 0: a new one */
	uint64_t hash, stamp;
	const void *key, *value;
	const struct found *moved;      /* the record whose bytes they are, or NULL */
};

static flagstone_status record_fill(struct column *c, const struct source *source, struct chain *chain, uint32_t head)
{
	if (source->moved) {
		const struct shard *from = column_shard(c, source->moved->tier);
		struct chain bytes = chain_at(from, source->moved->cell, source->moved->version, found_bytes(source->moved));
		return chain_copy(chain, head, &bytes, source->moved->cell, found_bytes(source->moved));
	}
	flagstone_status status = chain_write(chain, head, source->key, source->like.key_length);
	return status == FLAGSTONE_OK ? chain_write(chain, head, source->value, source->like.value_length) : status;
}

/* 14, Set 3 to 8. old is in the same tier, or cell 0. */
static flagstone_status record_write(struct column *c, uint32_t tier, const struct source *source, const struct found *old, struct found *written)
{
	const struct shard *s = column_shard(c, tier);
	const struct found *like = &source->like;
	struct place place = {.slot = old->slot};
	uint64_t version = like->version;
	uint32_t cell = 0;
	flagstone_status status = old->cell ? FLAGSTONE_OK : index_place(s, source->hash, &place);
	if (status == FLAGSTONE_OK && version == 0)
		status = version_next(c, &version);
	if (status == FLAGSTONE_OK)
		status = cell_take(s, version, &cell);
	if (status != FLAGSTONE_OK)
		return status;
	struct FS_CellHeader *h = cell_at(s, cell);
	uint64_t recency = recency_make(source->stamp, order_turn(s), order_count(s, old->cell));
	atomic_store(&h->Recency, recency);
	word_set(&h->Prev, 0);
	word_set(&h->Next, 0);
	atomic_store(&h->Expiry, like->expiry);
	word_set(&h->ValueLength, like->value_length);
	word_set(&h->KeyFlags, like->flags << FS_KeyFlagsShift | like->key_length);
	word_set(&h->Chain, 0);
	word_set(&h->UserTag, like->tag);
	struct chain chain = chain_at(s, cell, version, found_bytes(like));
	status = record_fill(c, source, &chain, cell);
	if (status != FLAGSTONE_OK)
		return status;
	*written = *like; /* from here on it may be found, also by who begins again after broken words */
	written->tier = tier;
	written->cell = cell;
	written->slot = place.slot;
	written->version = version;
	written->recency = recency;
	atomic_store(&h->Version, version); /* LIVE: the fence of who has loaded it pairs with this */
	index_name(&place, source->hash, cell);
	status = order_enter(s, cell, source->hash, old->cell);
	if (status != FLAGSTONE_OK)
		return status;
	order_written(s);
	word_set(&s->head->Live, word_get(&s->head->Live) + 1);
	word_set(&s->head->Used, word_get(&s->head->Used) + geometry_cells(s->geometry, found_bytes(like)));
	word_set(&s->head->Bytes, word_get(&s->head->Bytes) + found_bytes(like));
	written->small = order_small(h);
	return FLAGSTONE_OK;
}

static const struct found found_none = {0};

static flagstone_status record_store(struct column *c, uint32_t tier, const struct record *record, const struct found *old, struct found *written)
{
	const struct shard *s = column_shard(c, tier);
	struct source source = {
		.like = {.key_length = record->key.length, .flags = record->key.flags, .value_length = (uint32_t)record->length,
		         .expiry = record->expiry, .tag = record->tag},
		.hash = record->key.hash,
		.stamp = record->stamp ? record->stamp : c->now,
		.key = record->key.bytes,
		.value = record->value,
	};
	bool there = old && old->cell != 0, replaces = there && old->tier == tier;
	struct found scratch;
	flagstone_status status = record_write(c, tier, &source, replaces ? old : &found_none, written ? written : &scratch);
	if (status == FLAGSTONE_OK && there)
		status = replaces ? record_free(s, old) : record_remove(c, old); /* published first (tiers.pml BREAK_PUBLISH_FIRST) */
	if (status == FLAGSTONE_OK)
		shard_count(&s->head->Sets, 1);
	return status;
}

static bool tier_takes(const struct column *c, uint32_t tier)
{
	const struct slab *slab = c->view->slab[tier];
	if (tier == 0 || !slab->state)
		return true;
	uint64_t word = atomic_load(slab->state); /* under the lock (drain.pml BREAK_STATE): a drainer's CAS is before or its pass comes later */
	return (word & FS_EntryStateMask) == FS_EntryOpen && word >> FS_StateGenerationShift == slab->generation;
}

static bool tier_allows(const struct column *c, uint32_t tier, uint64_t key, uint64_t value)
{
	const struct geometry *g = &c->view->slab[tier]->geometry;
	return key <= g->max_key && value <= g->max_value;
}

static flagstone_status record_move(struct column *c, const struct found *found, uint32_t tier, struct found *moved)
{
	struct source source = {.like = *found, .stamp = recency_stamp(atomic_load(&cell_at(column_shard(c, found->tier), found->cell)->Recency)),
	                        .moved = found};
	struct found scratch;
	if (!tier_allows(c, tier, found->key_length, found->value_length))
		return fail(FLAGSTONE_TOOLARGE, "a record of %" PRIu32 " and %" PRIu32 " bytes is too large for tier %" PRIu32, found->key_length,
		            found->value_length, tier);
	if (!tier_takes(c, tier))
		return fail(FLAGSTONE_FULL, "tier %" PRIu32 " takes no records", tier);
	flagstone_status status = record_hash(c, found, &source.hash);
	if (status != FLAGSTONE_OK)
		return status;
	bool up = tier < found->tier;
	if (up)
		epoch_move(c); /* comeback.pml BREAK_COUNT */
	if (version_sequence(found->version) > word_get(&c->top->Sequence))
		word_set(&c->top->Sequence, version_sequence(found->version));
	status = record_write(c, tier, &source, &found_none, moved ? moved : &scratch);
	if (status != FLAGSTONE_OK)
		return status;
	shard_count(&column_shard(c, found->tier)->head->MovedOut, 1);
	shard_count(&column_shard(c, tier)->head->MovedIn, 1); /* before the source goes */
	status = record_remove(c, found);
	if (up)
		epoch_move(c); /* comeback.pml BREAK_AFTER */
	return status;
}

/* --- Make room --- */

/* 14, Make room, b: with its slot. */
static flagstone_status record_victim(struct column *c, uint32_t tier, uint32_t keep, struct found *victim)
{
	const struct shard *s = column_shard(c, tier);
	uint32_t cell = 0;
	flagstone_status status = order_victim(s, keep, &cell);
	if (status != FLAGSTONE_OK)
		return status;
	if (!cell_live(s, tier, cell, victim))
		return broken(s, "the order has a cell that is no live record", cell);
	return record_locate(c, victim);
}

/* b and e: the victim's key, if it was in the small queue, leaves a ghost. */
static flagstone_status record_ghost(struct column *c, const struct found *victim)
{
	uint64_t hash;
	flagstone_status status = victim->small ? record_hash(c, victim, &hash) : FLAGSTONE_OK;
	if (status == FLAGSTONE_OK && victim->small)
		ghost_leave(column_shard(c, victim->tier), hash);
	return status;
}

/* e. */
static flagstone_status record_evict(struct column *c, const struct found *victim)
{
	struct FS_Shard *head = column_shard(c, victim->tier)->head;
	uint64_t stamp = recency_stamp(victim->recency), age = c->now > stamp ? c->now - stamp : 0;
	flagstone_status status = record_ghost(c, victim);
	if (status == FLAGSTONE_OK)
		status = record_remove(c, victim);
	if (status != FLAGSTONE_OK)
		return status;
	shard_count(&head->EvictedFull, 1);
	shard_count(&head->AgeSum, age);
	word_set(&head->AgeLast, age ? age : 1);
	return FLAGSTONE_OK;
}

/* c: the first tier below that takes the record; 0 if there is none. */
static uint32_t record_below(const struct column *c, const struct found *victim)
{
	for (uint32_t tier = victim->tier + 1; tier < c->tiers; tier++)
		if (tier_takes(c, tier) && tier_allows(c, tier, victim->key_length, victim->value_length))
			return tier;
	return 0;
}

static bool record_fits(const struct shard *s, uint32_t cells, uint32_t spared)
{
	return (uint64_t)word_get(&s->head->Used) + cells <= (uint64_t)s->geometry->cells - s->geometry->reserve + spared;
}

static flagstone_status record_full(uint32_t tier, uint32_t cells)
{
	return fail(FLAGSTONE_FULL, "no room for %" PRIu32 " cells in tier %" PRIu32, cells, tier);
}

static flagstone_status record_room(struct column *c, uint32_t tier, uint32_t cells, const struct found *keep, bool stay)
{
	const struct shard *s = column_shard(c, tier);
	bool here = keep && keep->cell != 0 && keep->tier == tier;
	uint32_t spared = here ? geometry_cells(s->geometry, found_bytes(keep)) : 0;
	stay = stay || s->geometry->full == FS_FullRefuse;
	while (!record_fits(s, cells, spared)) {
		struct found victim;
		if (stay && tier + 1 == c->tiers)
			return record_full(tier, cells);
		flagstone_status status = record_victim(c, tier, here ? keep->cell : 0, &victim);
		if (status != FLAGSTONE_OK)
			return status;
		uint32_t below = record_below(c, &victim);
		if (below != 0) {
			uint32_t size = geometry_cells(&c->view->slab[below]->geometry, found_bytes(&victim));
			status = record_ghost(c, &victim);
			if (status == FLAGSTONE_OK)
				status = record_room(c, below, size, keep, stay);
			if (status == FLAGSTONE_OK)
				status = record_move(c, &victim, below, NULL);
			if (status == FLAGSTONE_OK)
				continue;
			if (status != FLAGSTONE_FULL)
				return status;
		}
		if (stay)
			return record_full(tier, cells);
		status = record_evict(c, &victim);
		if (status != FLAGSTONE_OK)
			return status;
	}
	return FLAGSTONE_OK;
}

static flagstone_status record_set(struct column *c, uint32_t tier, const struct record *record, const struct found *old, bool stay, struct found *written)
{
	uint32_t cells = geometry_cells(&c->view->slab[tier]->geometry, (uint64_t)record->key.length + record->length);
	flagstone_status status = record_room(c, tier, cells, old, stay);
	return status == FLAGSTONE_OK ? record_store(c, tier, record, old, written) : status;
}

/* --- Use --- */

static flagstone_status record_front(struct column *c, const struct found *found)
{
	const struct shard *s = column_shard(c, found->tier);
	struct FS_CellHeader *h = cell_at(s, found->cell);
	uint64_t recency = atomic_load(&h->Recency);
	if (order_s3fifo(s) || recency_turn(recency) == order_turn(s))
		return FLAGSTONE_OK;
	flagstone_status status = order_refront(s, found->cell, false);
	if (status == FLAGSTONE_OK)
		recency_mark(h, order_turn(s), 0);
	return status;
}

static void record_use(struct column *c, const struct found *found)
{
	const struct shard *s = column_shard(c, found->tier);
	struct FS_CellHeader *h = cell_at(s, found->cell);
	uint64_t seen = atomic_load(&h->Recency);
	for (int tries = 0; tries < 3; tries++) {
		uint64_t stamp = recency_stamp(seen) < c->now ? c->now : recency_stamp(seen);
		uint32_t number = recency_count(seen);
		if (order_s3fifo(s) && number < 3)
			number++;
		if (atomic_compare_exchange_strong(&h->Recency, &seen, recency_make(stamp, recency_turn(seen), number)))
			return; /* pairs with the CAS of a hit */
	}
}
