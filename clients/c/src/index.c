/* The index: chains of buckets (PROTOCOL.md, 6, Index). Without a lock a chain is what its words say; with it they must be right. */

static flagstone_status broken(const struct shard *s, const char *what, uint64_t value)
{
	return fail(FLAGSTONE_CORRUPT, "shard %" PRIu32 ": %s (%" PRIu64 ")", s->number, what, value);
}

static uint32_t bucket_of(const struct geometry *g, uint64_t hash)
{
	return (uint32_t)((hash & UINT32_MAX) * g->buckets >> 32);
}

static inline uint64_t slot_make(uint64_t hash, uint32_t cell)
{
	return (hash >> FS_SlotTagShift) << FS_SlotTagShift | cell;
}

static inline uint32_t slot_cell(uint64_t slot)
{
	return (uint32_t)slot;
}

static void bucket_prefetch(const struct shard *s, uint64_t hash)
{
	__builtin_prefetch(&s->buckets[bucket_of(s->geometry, hash)]);
}

/* The bucket after b in its chain, NULL at the end. *link is what stood there: beyond the geometry it ends the chain too. */
static inline struct FS_Bucket *bucket_next(const struct shard *s, struct FS_Bucket *b, uint64_t *link)
{
	*link = atomic_load(&b->Link);
	return *link == 0 || *link > s->geometry->overflow ? NULL : &s->overflow[*link];
}

static bool bucket_empty(struct FS_Bucket *b)
{
	for (unsigned i = 0; i < FS_SlotsPerBucket; i++)
		if (word_get(&b->Slots[i]) != 0)
			return false;
	return true;
}

/* Under the lock: the next bucket, or broken words; steps counts down from Overflow + 1. */
static flagstone_status bucket_follow(const struct shard *s, struct FS_Bucket **b, uint32_t *steps)
{
	uint64_t link;
	*b = bucket_next(s, *b, &link);
	if (link > s->geometry->overflow)
		return broken(s, "a bucket's link leads nowhere", link);
	if (*b && --*steps == 0)
		return broken(s, "a chain of buckets has no end", link);
	return FLAGSTONE_OK;
}

/* The slot in the chain of hash that names the cell; NULL if none does. */
static flagstone_status index_find(const struct shard *s, uint64_t hash, uint32_t cell, _Atomic(uint64_t) **slot)
{
	struct FS_Bucket *b = &s->buckets[bucket_of(s->geometry, hash)];
	uint32_t steps = s->geometry->overflow + 1;
	flagstone_status status = FLAGSTONE_OK;
	for (; b && status == FLAGSTONE_OK; status = bucket_follow(s, &b, &steps))
		for (unsigned i = 0; i < FS_SlotsPerBucket; i++)
			if (word_get(&b->Slots[i]) == slot_make(hash, cell)) {
				*slot = &b->Slots[i];
				return FLAGSTONE_OK;
			}
	*slot = NULL;
	return status;
}

/* A place for a new name: an empty slot, perhaps in a bucket that is still to be linked. */
struct place {
	_Atomic(uint64_t) *slot;
	struct FS_Bucket *last; /* to be linked to the bucket `fresh`, if that is not 0 */
	uint32_t fresh;
};

static flagstone_status overflow_take(const struct shard *s, uint32_t *taken)
{
	uint32_t number = word_get(&s->head->OverflowHead), bump = word_get(&s->head->OverflowBump);
	if (number == 0 && bump >= s->geometry->overflow)
		return broken(s, "no overflow bucket is left", bump);
	*taken = number ? number : bump + 1;
	if (*taken > s->geometry->overflow)
		return broken(s, "the list of overflow buckets leads nowhere", number);
	struct FS_Bucket *b = &s->overflow[*taken];
	if (!bucket_empty(b))
		return broken(s, "a free overflow bucket is in use", *taken);
	if (number)
		word_set(&s->head->OverflowHead, (uint32_t)word_get(&b->Link));
	else
		word_set(&s->head->OverflowBump, bump + 1);
	atomic_store(&b->Link, 0);
	return FLAGSTONE_OK;
}

/* The first empty slot of the chain, else slot 0 of an overflow bucket (14, Set 3). */
static flagstone_status index_place(const struct shard *s, uint64_t hash, struct place *place)
{
	struct FS_Bucket *b = &s->buckets[bucket_of(s->geometry, hash)];
	uint32_t steps = s->geometry->overflow + 1;
	flagstone_status status = FLAGSTONE_OK;
	place->last = NULL;
	place->fresh = 0;
	for (; b && status == FLAGSTONE_OK; status = bucket_follow(s, &b, &steps)) {
		place->last = b;
		for (unsigned i = 0; i < FS_SlotsPerBucket; i++)
			if (word_get(&b->Slots[i]) == 0) {
				place->slot = &b->Slots[i];
				return FLAGSTONE_OK;
			}
	}
	if (status == FLAGSTONE_OK)
		status = overflow_take(s, &place->fresh);
	if (status == FLAGSTONE_OK)
		place->slot = &s->overflow[place->fresh].Slots[0];
	return status;
}

/* 14, Set 6 and 7: link the bucket while it is empty (overflow.pml BREAK_LINK_LAST), then store the slot, which readers load. */
static void index_name(const struct place *place, uint64_t hash, uint32_t cell)
{
	if (place->fresh)
		atomic_store(&place->last->Link, place->fresh);
	atomic_store(place->slot, slot_make(hash, cell));
}

/* 14, Delete 3 and 4: clears the slot and unlinks what is empty at the chain's end. */
static flagstone_status index_clear(const struct shard *s, uint64_t hash, _Atomic(uint64_t) *slot)
{
	struct FS_Bucket *b = &s->buckets[bucket_of(s->geometry, hash)], *keep = b;
	uint32_t steps = s->geometry->overflow + 1;
	flagstone_status status = FLAGSTONE_OK;
	atomic_store(slot, 0);
	for (; b && status == FLAGSTONE_OK; status = bucket_follow(s, &b, &steps))
		if (!bucket_empty(b))
			keep = b;
	uint32_t link = (uint32_t)word_get(&keep->Link);
	if (status != FLAGSTONE_OK || link == 0)
		return status;
	atomic_store(&keep->Link, 0); /* only at the end (overflow.pml BREAK_MIDDLE) */
	while (link != 0) {
		struct FS_Bucket *freed = &s->overflow[link];
		uint32_t next = (uint32_t)word_get(&freed->Link);
		atomic_store(&freed->Link, word_get(&s->head->OverflowHead));
		word_set(&s->head->OverflowHead, link);
		link = next;
	}
	return FLAGSTONE_OK;
}
