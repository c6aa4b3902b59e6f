/* Lookups without a lock (PROTOCOL.md, 13). */

enum { LOOKUP_TRIES = 64, LOOKUP_VIEWS = 16, STAMP_TRIES = 3 };

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

enum seen { SEEN_NOTHING, SEEN_RECORD, SEEN_CHANGE };

/* Step 2, a and b, for one slot whose tag is the key's. SEEN_CHANGE: look at the slot again. */
static inline enum seen read_slot(const struct shard *s, const struct key *key, _Atomic(uint64_t) *slot, uint64_t name, struct answer *answer)
{
	uint32_t cell = slot_cell(name);
	if (unlikely(!cell_exists(s, cell)))
		return SEEN_NOTHING;
	struct FS_CellHeader *h = cell_at(s, cell);
	uint64_t version = atomic_load(&h->Version); /* pairs with the store of LIVE */
	bool found = false, damaged = false;
	if (likely(version_live(version, s->number) && word_get(&h->KeyFlags) == (key->flags << FS_KeyFlagsShift | key->length))) {
		uint32_t length = word_get(&h->ValueLength);
		answer->recency = word_get(&h->Recency);
		answer->expiry = word_get(&h->Expiry);
		answer->tag = word_get(&h->UserTag);
		answer->length = length;
		answer->version = version;
		size_t copied = length < answer->capacity ? length : answer->capacity;
		if (likely((uint64_t)key->length + length <= s->geometry->cell_size - HEAD_BYTES)) {
			found = bytes_equal((unsigned char *)h, HEAD_BYTES, key->bytes, key->length);
			if (found && copied > 0)
				bytes_out(answer->buffer, (unsigned char *)h, HEAD_BYTES + key->length, copied);
		} else if (length <= s->geometry->max_value) {
			struct chain chain = chain_at(s, cell, version, (uint64_t)key->length + length);
			found = chain_equal(&chain, cell, key->bytes, key->length) && chain_read(&chain, cell, answer->buffer, copied);
			damaged = chain.cut;
		} else { /* an impossible length: of a record of the key, or of any other */
			size_t head = s->geometry->cell_size - HEAD_BYTES;
			damaged = bytes_equal((unsigned char *)h, HEAD_BYTES, key->bytes, key->length < head ? key->length : head);
		}
	}
	fence(memory_order_acquire); /* pairs with the fence behind PART */
	if (unlikely(damaged || atomic_load(&h->Version) != version || atomic_load(slot) != name))
		return SEEN_CHANGE;
	return found ? SEEN_RECORD : SEEN_NOTHING;
}

/* The slots whose tag is the key's, a bit each: without a branch, as which slot it is nobody can predict. */
#ifndef BYTES_BY_WORDS /* on x86-64, which has SSE2: the halves need not be of one moment, as each slot that matches is looked at again */
static inline unsigned bucket_match(const struct FS_Bucket *b, uint32_t tag)
{
	const __m128i *two = (const __m128i *)(const void *)b, want = _mm_set1_epi32((int)tag);
	atomic_signal_fence(memory_order_seq_cst);
	__m128 a = _mm_castsi128_ps(_mm_load_si128(two)), c = _mm_castsi128_ps(_mm_load_si128(two + 1));
	__m128 d = _mm_castsi128_ps(_mm_load_si128(two + 2)), e = _mm_castsi128_ps(_mm_load_si128(two + 3));
	atomic_signal_fence(memory_order_seq_cst);
	__m128i low = _mm_castps_si128(_mm_shuffle_ps(a, c, _MM_SHUFFLE(3, 1, 3, 1))); /* the high halves of four slots */
	__m128i high = _mm_castps_si128(_mm_shuffle_ps(d, e, _MM_SHUFFLE(3, 1, 3, 1)));
	__m128i both = _mm_packs_epi32(_mm_cmpeq_epi32(low, want), _mm_cmpeq_epi32(high, want));
	return (unsigned)_mm_movemask_epi8(_mm_packs_epi16(both, both)) & ((1u << FS_SlotsPerBucket) - 1);
}
#else
static inline unsigned bucket_match(const struct FS_Bucket *b, uint32_t tag)
{
	unsigned match = 0;
#pragma GCC unroll 7
	for (unsigned i = 0; i < FS_SlotsPerBucket; i++)
		match |= (unsigned)((uint32_t)(atomic_load_explicit(&b->Slots[i], memory_order_acquire) >> FS_SlotTagShift) == tag) << i;
	return match;
}
#endif

/* A tier's chain. *place is the cell found. SEEN_CHANGE: words would not stand still. */
static inline enum seen read_tier(const struct shard *s, const struct key *key, struct answer *answer, uint32_t *place)
{
	struct FS_Bucket *b = &s->buckets[bucket_of(s->geometry, key->hash)];
	uint32_t tag = (uint32_t)(key->hash >> FS_SlotTagShift);
	uint64_t link;
	for (uint32_t steps = s->geometry->overflow + 1; b && steps > 0; b = bucket_next(s, b, &link), steps--)
		for (unsigned match = bucket_match(b, tag); match != 0; match &= match - 1)
			for (unsigned tries = 0, i = (unsigned)__builtin_ctz(match);; tries++) {
				uint64_t name = atomic_load(&b->Slots[i]); /* pairs with the store that names a record */
				if (likely((uint32_t)(name >> FS_SlotTagShift) != tag || name == 0))
					break;
				enum seen seen = read_slot(s, key, &b->Slots[i], name, answer);
				*place = slot_cell(name);
				if (seen == SEEN_RECORD || (seen == SEEN_CHANGE && tries == LOOKUP_TRIES))
					return seen;
				if (seen == SEEN_NOTHING)
					break;
				cpu_relax();
			}
	return SEEN_NOTHING;
}

/* Step 8: a use. s3fifo counts. */
static void read_stamp(struct stack *stack, const struct shard *s, uint32_t cell, uint64_t seen)
{
	uint64_t now = clock_domain(stack->domain);
	for (int tries = 0; tries < STAMP_TRIES; tries++) {
		uint64_t stamp = recency_stamp(seen);
		uint32_t number = recency_count(seen);
		bool old = stamp + stack->stamp_millis < now, counts = order_s3fifo(s) && number < 3;
		if (likely(!old && !counts))
			return;
		uint64_t use = recency_make(old ? now : stamp, recency_turn(seen), number + counts);
		if (atomic_compare_exchange_strong(&cell_at(s, cell)->Recency, &seen, use))
			return; /* pairs with the lock holder's CAS (stamp.pml) */
	}
}

/* Step 9, under the lock: to the front, or up. */
static flagstone_status read_promote_in(struct column *c, struct found *found)
{
	flagstone_status status = record_locate(c, found);
	if (status != FLAGSTONE_OK)
		return status;
	if (found->tier == 0 || !c->stack->promote)
		return record_front(c, found);
	const struct geometry *g = &c->view->slab[0]->geometry;
	if (!tier_allows(c, 0, found->key_length, found->value_length))
		return FLAGSTONE_NO;
	status = record_room(c, 0, geometry_cells(g, found_bytes(found)), found, true);
	return status == FLAGSTONE_OK ? record_move(c, found, 0, NULL) : status;
}

static __attribute__((noinline)) void read_promote(struct stack *stack, struct view *view, uint32_t shard, uint32_t tier, uint32_t cell, uint64_t version)
{
	struct column c;
	if (column_try(&c, stack, shard, view) != FLAGSTONE_OK)
		return;
	flagstone_status status;
	do {
		struct found found = {.tier = tier, .cell = cell, .version = version};
		status = read_promote_in(&c, &found);
	} while (column_again(&c, &status));
	column_leave(&c, status);
}

static inline void read_use(struct stack *stack, struct view *view, uint32_t shard, uint32_t cell, const struct answer *answer)
{
	const struct shard *s = &view->slab[answer->tier]->shards[shard];
	if (unlikely(stack->reader))
		return;
	read_stamp(stack, s, cell, answer->recency);
	bool front = !order_s3fifo(s) && recency_turn(answer->recency) != (atomic_load(&s->head->Turn) & FS_RecencyTurnMask);
	if (unlikely(front || (answer->tier > 0 && stack->promote)))
		read_promote(stack, view, shard, answer->tier, cell, answer->version);
}

/* What was found, judged by its expiry (steps 4 and 5). */
static inline flagstone_status read_judge(struct stack *stack, unsigned mode, struct answer *answer)
{
	answer->stale = false;
	if (likely((answer->expiry & FS_ExpiryMask) == 0 || mode & LOOKUP_ANY))
		return FLAGSTONE_OK;
	uint64_t wall = clock_wall(stack->domain);
	if (!expiry_over(answer->expiry, wall))
		return FLAGSTONE_OK;
	answer->stale = (mode & LOOKUP_STALE) != 0 && !expiry_gone(answer->expiry, wall);
	return answer->stale ? FLAGSTONE_OK : FLAGSTONE_NO;
}

/* Steps 1 to 3 of one try in a view. FLAGSTONE_BUSY: begin again. */
static inline flagstone_status read_view(struct view *view, uint32_t shard, const struct key *key, struct answer *answer, uint32_t *cell)
{
	struct FS_Shard *top = view->slab[0]->shards[shard].head;
	uint64_t epoch = atomic_load(&top->Epoch); /* pairs with who moves up, removes below or rebuilds */
	if (unlikely(epoch & FS_EpochRebuilding))
		return FLAGSTONE_BUSY;
	enum seen seen = SEEN_NOTHING;
	uint32_t tier = 0;
	for (; tier < view->tiers; tier++) {
		seen = read_tier(&view->slab[tier]->shards[shard], key, answer, cell);
		if (seen != SEEN_NOTHING)
			break;
	}
	fence(memory_order_acquire);
	uint64_t again = atomic_load(&top->Epoch);
	answer->tier = tier;
	if (seen == SEEN_RECORD)
		return likely(((again ^ epoch) & FS_EpochRebuildMask) == 0) ? FLAGSTONE_OK : FLAGSTONE_BUSY;
	return seen == SEEN_NOTHING && again == epoch ? FLAGSTONE_NO : FLAGSTONE_BUSY;
}

/* Where nothing stands still: the lock, at one try. */
static flagstone_status read_locked_in(struct column *c, const struct key *key, struct answer *answer, uint32_t *cell)
{
	struct found found;
	flagstone_status status = record_find(c, key, &found);
	if (status != FLAGSTONE_OK || found.cell == 0)
		return status == FLAGSTONE_OK ? FLAGSTONE_NO : status;
	answer->tier = found.tier;
	answer->version = found.version;
	answer->expiry = found.expiry;
	answer->recency = found.recency;
	answer->tag = found.tag;
	answer->length = found.value_length;
	*cell = found.cell;
	return record_value(c, &found, 0, answer->buffer,
	                    answer->capacity < answer->length ? (uint32_t)answer->capacity : found.value_length);
}

static __attribute__((noinline)) flagstone_status read_locked(struct stack *stack, struct view *view, uint32_t shard, const struct key *key,
                                                              struct answer *answer, uint32_t *cell)
{
	struct column c;
	flagstone_status status = column_once(&c, stack, shard, view, true);
	if (status != FLAGSTONE_OK)
		return status == FLAGSTONE_BUSY ? fail(FLAGSTONE_BUSY, "shard %" PRIu32 " does not stand still, and its lock is taken", shard) : status;
	do
		status = read_locked_in(&c, key, answer, cell);
	while (column_again(&c, &status));
	return column_leave(&c, status);
}

static inline flagstone_status read_tries(struct stack *stack, struct view *view, uint32_t shard, const struct key *key, struct answer *answer,
                                          uint32_t *cell)
{
	for (int tries = 0; tries < LOOKUP_TRIES; tries++) {
		flagstone_status status = read_view(view, shard, key, answer, cell);
		if (likely(status != FLAGSTONE_BUSY))
			return status;
		cpu_relax();
	}
	return read_locked(stack, view, shard, key, answer, cell);
}

static flagstone_status lookup(struct stack *stack, const struct key *key, unsigned mode, struct answer *answer)
{
	struct domain *d = stack->domain;
	uint32_t shard = key_shard(stack, key), cell = 0;
	struct view *view = stack_view(stack);
	flagstone_status status = FLAGSTONE_NO;
	busy(d);
	for (int views = 0; views < LOOKUP_VIEWS; views++) {
		status = likely(key->length <= stack->max_key) ? read_tries(stack, view, shard, key, answer, &cell) : FLAGSTONE_NO;
		if (status == FLAGSTONE_OK)
			status = read_judge(stack, mode, answer);
		if (likely(status == FLAGSTONE_OK))
			break;
		if (status != FLAGSTONE_NO && status != FLAGSTONE_BUSY)
			return status;
		if (likely(atomic_load(&view->changes) == changes(d) && view->lacking == FLAGSTONE_OK)) /* 7 (drain.pml BREAK_MISS) */
			break;
		flagstone_status made = stack_refresh(stack, &view);
		if (made != FLAGSTONE_OK)
			return made;
		if (view->lacking != FLAGSTONE_OK && atomic_load(&view->changes) == changes(d) && views > 0)
			return view_lacks(stack, view);
		status = fail(FLAGSTONE_BUSY, "the directory does not stand still");
	}
	flagstone_status fate = domain_ready(d);
	if (unlikely(fate != FLAGSTONE_OK))
		return fate;
	if (likely(status == FLAGSTONE_OK) && likely((mode & LOOKUP_PEEK) == 0))
		read_use(stack, view, shard, cell, answer);
	if (likely((mode & LOOKUP_UNCOUNTED) == 0) && status != FLAGSTONE_BUSY) {
		count(d, status == FLAGSTONE_OK ? FS_CounterHits : FS_CounterMisses, 1);
		if (status == FLAGSTONE_OK)
			count(d, (uint32_t)FS_CounterTierHits + (answer->tier < FS_TierCounters ? answer->tier : (uint32_t)FS_TierCounters - 1), 1);
	}
	return status;
}

/* The cells that the first bucket names for the hash. */
static inline void cells_prefetch(const struct shard *s, uint64_t hash)
{
	struct FS_Bucket *b = &s->buckets[bucket_of(s->geometry, hash)];
	for (unsigned match = bucket_match(b, (uint32_t)(hash >> FS_SlotTagShift)); match != 0; match &= match - 1) {
		uint32_t cell = slot_cell(word_get(&b->Slots[__builtin_ctz(match)]));
		if (likely(cell_exists(s, cell))) {
			__builtin_prefetch(cell_at(s, cell));
			__builtin_prefetch((unsigned char *)cell_at(s, cell) + FS_LineSize);
		}
	}
}

/* --- Scans --- */

struct copy {
	unsigned char *bytes;
	size_t capacity;
};

/* Key and value of a record that cell_live gave, without the lock. FLAGSTONE_BUSY: it changed. */
static flagstone_status copy_record(const struct shard *s, const struct found *found, struct copy *copy)
{
	uint64_t size = found_bytes(found);
	if (copy->capacity < size + 1) {
		unsigned char *more = realloc(copy->bytes, size + 1);
		if (!more)
			return fail(FLAGSTONE_NOMEMORY, "no memory for a record of %" PRIu64 " bytes", size);
		copy->bytes = more;
		copy->capacity = size + 1;
	}
	struct chain chain = chain_at(s, found->cell, found->version, size);
	bool whole = chain_read(&chain, found->cell, copy->bytes, size);
	fence(memory_order_acquire);
	return whole && atomic_load(&cell_at(s, found->cell)->Version) == found->version ? FLAGSTONE_OK : FLAGSTONE_BUSY;
}

/* One slot of a scanned chain. FLAGSTONE_BUSY: it is changing, or its words contradict each other. */
static flagstone_status scan_slot(struct stack *stack, const struct shard *s, uint32_t tier, uint32_t bucket, uint32_t first, uint32_t last,
                                  _Atomic(uint64_t) *slot, struct copy *copy, chain_visit visit, void *context, bool *more)
{
	struct found found;
	uint64_t name = atomic_load(slot);
	if (name == 0 || !cell_exists(s, slot_cell(name)))
		return FLAGSTONE_OK;
	_Atomic(uint64_t) *word = &cell_at(s, slot_cell(name))->Version;
	uint64_t version = atomic_load(word);
	if (!cell_live(s, tier, slot_cell(name), &found)) /* on its way out, or damaged, if it stays so */
		return atomic_load(slot) == name && atomic_load(word) == version ? FLAGSTONE_OK : FLAGSTONE_BUSY;
	flagstone_status status = copy_record(s, &found, copy);
	if (status != FLAGSTONE_OK)
		return status;
	if (atomic_load(slot) != name)
		return FLAGSTONE_BUSY;
	uint64_t hash = hash_of(stack, copy->bytes, found.key_length, found.flags);
	if ((uint32_t)hash >= first && (uint32_t)hash <= last && bucket_of(s->geometry, hash) == bucket)
		*more = visit(context, &found, hash, copy->bytes, copy->bytes + found.key_length);
	return FLAGSTONE_OK;
}

static flagstone_status lookup_chain(struct stack *stack, struct view *view, uint32_t shard, uint32_t tier, uint32_t bucket, uint32_t first,
                                     uint32_t last, chain_visit visit, void *context)
{
	const struct shard *s = &view->slab[tier]->shards[shard];
	struct FS_Bucket *b = &s->buckets[bucket];
	struct copy copy = {NULL, 0};
	flagstone_status status = FLAGSTONE_OK;
	bool more = true;
	for (uint32_t steps = s->geometry->overflow + 1; b && more && status == FLAGSTONE_OK; steps--) {
		for (unsigned i = 0; i < FS_SlotsPerBucket && more && status == FLAGSTONE_OK; i++)
			status = scan_slot(stack, s, tier, bucket, first, last, &b->Slots[i], &copy, visit, context, &more);
		uint64_t link;
		b = bucket_next(s, b, &link);
		if (status == FLAGSTONE_OK && (link > s->geometry->overflow || (b && steps == 1)))
			status = FLAGSTONE_BUSY; /* a chain to nowhere, or without an end */
	}
	free(copy.bytes);
	return status;
}
