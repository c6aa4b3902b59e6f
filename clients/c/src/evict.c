/* Eviction by a cutoff, by user tag and near a key (section 16): cells are looked at without a lock, and compared under it. */
#include "handle.h"

#include <stdlib.h>

enum { EVICT_LOOKS = 4, EVICT_TAG_LOOKS = 64, EVICT_BATCH = 64 };

struct candidate {
	const struct slab *slab;
	uint64_t age;                /* the stamp it counts as */
	uint64_t stamp, version;
	uint32_t cell, shard;
	bool internal;               /* an id or a claim: does not count towards the limit */
};

/* A heap of those that count, the youngest on top, and a list of those that do not. */
struct sieve {
	uint64_t cutoff, limit, younger;
	uint32_t tag;                /* 0: by cutoff */
	uint64_t *sequence;          /* by tag: of each column, when it began; what is newer stays */
	struct candidate *item;
	size_t count, room;
	struct candidate *internal;
	size_t internals, internal_room;
};

static bool candidates_room(struct candidate **items, size_t used, size_t *room)
{
	if (used < *room)
		return true;
	size_t more = *room ? 2 * *room : 1024;
	struct candidate *grown = realloc(*items, more * sizeof *grown);
	if (!grown)
		return false;
	*items = grown;
	*room = more;
	return true;
}

static bool candidate_younger(const struct candidate *a, const struct candidate *b)
{
	return a->age != b->age ? a->age > b->age : a->version > b->version;
}

static void heap_up(struct candidate *item, size_t i)
{
	for (; i > 0 && candidate_younger(&item[i], &item[(i - 1) / 2]); i = (i - 1) / 2) {
		struct candidate t = item[i];
		item[i] = item[(i - 1) / 2];
		item[(i - 1) / 2] = t;
	}
}

static void heap_down(struct candidate *item, size_t n)
{
	for (size_t i = 0, child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && candidate_younger(&item[child + 1], &item[child]))
			child++;
		if (!candidate_younger(&item[child], &item[i]))
			return;
		struct candidate t = item[i];
		item[i] = item[child];
		item[child] = t;
	}
}

static bool sieve_add(struct sieve *s, const struct candidate *c)
{
	if (c->internal) {
		if (!candidates_room(&s->internal, s->internals, &s->internal_room))
			return false;
		s->internal[s->internals++] = *c;
		return true;
	}
	if (s->count < s->limit) {
		if (!candidates_room(&s->item, s->count, &s->room))
			return false;
		s->item[s->count] = *c;
		heap_up(s->item, s->count++);
	} else if (s->count && candidate_younger(&s->item[0], c)) {
		s->item[0] = *c;
		heap_down(s->item, s->count);
	}
	return true;
}

/* Step 3, of one slab. */
static bool sieve_slab(struct sieve *s, const struct slab *slab, uint32_t tier)
{
	for (uint32_t shard = 0; shard < slab->geometry.shards; shard++) {
		const struct shard *at = &slab->shards[shard];
		uint32_t cells = shard_cells(at);
		for (uint32_t cell = 1; cell <= cells; cell++) {
			struct found found;
			if (!cell_live(at, tier, cell, &found))
				continue;
			struct candidate c = {slab, recency_stamp(found.recency), recency_stamp(found.recency), found.version, cell, shard,
			                      record_internal(found.flags)};
			if (found.flags & FS_FlagNamespace && !(found.flags & FS_FlagClaim))
				c.age += s->younger; /* an id's stamp may lie behind those of its records */
			if (s->tag ? found.tag == s->tag && !c.internal && version_sequence(found.version) <= s->sequence[shard] : c.age < s->cutoff)
				if (!sieve_add(s, &c))
					return false;
		}
	}
	return true;
}

static int by_column(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	if (x->shard != y->shard)
		return x->shard < y->shard ? -1 : 1;
	return candidate_younger(x, y) - candidate_younger(y, x);
}

/* The ids and claims as old as what was found go along. */
static bool sieve_merge(struct sieve *s)
{
	bool all = s->count < s->limit;
	struct candidate youngest = s->count ? s->item[0] : (struct candidate){0};
	for (size_t i = 0; i < s->internals; i++) {
		if (!all && (s->count == 0 || candidate_younger(&s->internal[i], &youngest)))
			continue;
		if (!candidates_room(&s->item, s->count, &s->room))
			return false;
		s->item[s->count++] = s->internal[i];
	}
	if (s->count)
		qsort(s->item, s->count, sizeof *s->item, by_column);
	return true;
}

/* Step 4 for one candidate: FLAGSTONE_NO if it is not what was seen. */
static flagstone_status evict_one(struct column *c, const struct candidate *seen, bool by_tag, uint64_t *removed)
{
	struct found found;
	uint32_t tier = 0;
	while (tier < c->tiers && c->view->slab[tier] != seen->slab)
		tier++;
	if (tier == c->tiers)
		return FLAGSTONE_NO;
	const struct shard *s = column_shard(c, tier);
	if (!cell_live(s, tier, seen->cell, &found) || found.version != seen->version ||
	    (!by_tag && recency_stamp(found.recency) != seen->stamp))
		return FLAGSTONE_NO;
	flagstone_status status = record_locate(c, &found);
	if (status == FLAGSTONE_OK)
		status = record_remove(c, &found);
	if (status == FLAGSTONE_OK) {
		shard_count(by_tag ? &s->head->EvictedTag : &s->head->EvictedCutoff, 1);
		*removed += !seen->internal;
	}
	return status;
}

/* Those of one column, some under one lock. */
static flagstone_status evict_some(flagstone *h, const struct candidate *seen, size_t n, bool by_tag, uint64_t *removed)
{
	struct column c;
	flagstone_status status = column_enter(&c, h->stack, seen[0].shard, handle_deadline(h));
	if (status != FLAGSTONE_OK)
		return status;
	for (size_t i = 0; i < n; i++) {
		c.mended = false;
		do
			status = evict_one(&c, &seen[i], by_tag, removed);
		while (column_again(&c, &status));
		if (status != FLAGSTONE_OK && status != FLAGSTONE_NO)
			break;
		status = FLAGSTONE_OK;
	}
	return column_leave(&c, status);
}

/* What changes when a record may have come past: moves, rebuilds, and the view. */
static uint64_t evict_movement(const struct view *view)
{
	uint64_t sum = 0;
	for (uint32_t tier = 0; tier < view->tiers; tier++)
		for (uint32_t shard = 0; shard < view->slab[tier]->geometry.shards; shard++) {
			sum += atomic_load(&view->slab[tier]->shards[shard].head->MovedIn);
			if (tier == 0)
				sum += epoch_low(&view->slab[tier]->shards[shard]);
		}
	return sum;
}

/* One look at all cells, and the removal of what was found. *found is how many were. */
static flagstone_status evict_look(flagstone *h, struct sieve *s, size_t *found, bool *still, uint64_t *removed)
{
	struct view *view;
	flagstone_status status = stack_whole(h->stack, &view);
	if (status != FLAGSTONE_OK)
		return status;
	uint64_t before = evict_movement(view);
	s->count = s->internals = 0;
	bool room = true;
	for (uint32_t tier = 0; room && tier < view->tiers; tier++)
		room = sieve_slab(s, view->slab[tier], tier);
	if (!room || !sieve_merge(s))
		return fail(FLAGSTONE_NOMEMORY, "no memory for %zu records to evict", s->count);
	*found = s->count;
	for (size_t i = 0, n; i < s->count && status == FLAGSTONE_OK; i += n) {
		for (n = 1; n < EVICT_BATCH && i + n < s->count && s->item[i + n].shard == s->item[i].shard;)
			n++;
		status = evict_some(h, s->item + i, n, s->tag != 0, removed);
	}
	*still = evict_movement(view) == before && changes(h->domain) == atomic_load(&view->changes);
	return status;
}

static flagstone_status evict(flagstone *h, struct sieve *s, uint64_t *removed)
{
	flagstone_status status = FLAGSTONE_OK;
	uint64_t most = s->limit, gone = 0;
	bool over = false;
	for (int i = 0; !over && i < (s->tag ? EVICT_TAG_LOOKS : EVICT_LOOKS); i++) {
		size_t found = 0;
		bool still = false;
		s->limit = most - gone;
		status = evict_look(h, s, &found, &still, &gone);
		over = status != FLAGSTONE_OK || gone >= most || (found == 0 && still);
	}
	free(s->item);
	free(s->internal);
	if (removed)
		*removed = gone;
	if (!over && s->tag)
		return fail(FLAGSTONE_BUSY, "records with the tag were moved again and again");
	return status;
}

flagstone_status flagstone_evict(flagstone *handle, uint64_t cutoff, uint64_t limit, uint64_t *removed)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	uint64_t slack = FS_ClockSlackMillis + handle->stack->stamp_millis;
	struct sieve s = {.cutoff = cutoff > slack ? cutoff - slack : 0, .limit = limit, .younger = slack};
	return handle_leave(handle, evict(handle, &s, removed));
}

/* The sequence of every column: a writer that has given a number has given it under the lock. */
static flagstone_status evict_sequences(flagstone *h, uint64_t *sequence)
{
	for (uint32_t i = 0; i < h->stack->shards; i++) {
		struct column c;
		flagstone_status status = column_enter(&c, h->stack, i, handle_deadline(h));
		if (status != FLAGSTONE_OK)
			return status;
		sequence[i] = atomic_load(&c.top->Sequence);
		if ((status = column_leave(&c, FLAGSTONE_OK)) != FLAGSTONE_OK)
			return status;
	}
	return FLAGSTONE_OK;
}

flagstone_status flagstone_evict_tag(flagstone *handle, uint32_t tag, uint64_t *removed)
{
	uint64_t sequence[FS_MaxShards];
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	if (tag == 0)
		return fail(FLAGSTONE_OPTIONS, "evict by tag: 0 is no tag");
	struct sieve s = {.limit = UINT64_MAX, .tag = tag, .sequence = sequence};
	if ((status = evict_sequences(handle, sequence)) != FLAGSTONE_OK)
		return status;
	return handle_leave(handle, evict(handle, &s, removed));
}

/* --- Near --- */

struct near {
	struct key key;
	uint64_t limit, removed;
	struct sieve sieve;
};

/* The oldest of the hash's chain in every tier, up to the limit, but no ids and claims. */
static flagstone_status near_chain(struct column *c, struct near *op)
{
	op->sieve.count = 0;
	op->sieve.limit = op->limit - op->removed;
	for (uint32_t tier = 0; tier < c->tiers; tier++) {
		const struct slab *slab = c->view->slab[tier];
		const struct shard *s = column_shard(c, tier);
		struct chain_walk walk;
		struct found found;
		for (chain_begin(s, bucket_of(&slab->geometry, op->key.hash), &walk); chain_next(c, tier, &walk, &found);) {
			uint64_t stamp = recency_stamp(found.recency);
			struct candidate seen = {slab, stamp, stamp, found.version, found.cell, c->number, false};
			if (!record_internal(found.flags) && !sieve_add(&op->sieve, &seen))
				return fail(FLAGSTONE_NOMEMORY, "no memory for records to evict");
		}
	}
	for (size_t i = 0; i < op->sieve.count; i++) {
		flagstone_status status = evict_one(c, &op->sieve.item[i], false, &op->removed);
		if (status != FLAGSTONE_OK && status != FLAGSTONE_NO)
			return status;
	}
	return FLAGSTONE_OK;
}

flagstone_status flagstone_evict_near(flagstone *handle, flagstone_key key, uint64_t limit, uint64_t *removed)
{
	struct stored_key stored = {.far = NULL};
	struct column c;
	struct near op = {.limit = limit};
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = stored_key_begin(handle, &key, false, &stored);
	if (status == FLAGSTONE_OK) {
		op.key = stored.key;
		status = column_enter(&c, handle->stack, key_shard(handle->stack, &op.key), handle_deadline(handle));
	}
	stored_key_end(&stored);
	if (removed)
		*removed = 0;
	if (status != FLAGSTONE_OK) /* a namespace without an id has no place to be near to */
		return status == FLAGSTONE_NO ? FLAGSTONE_OK : status;
	do
		status = near_chain(&c, &op);
	while (column_again(&c, &status));
	status = handle_leave(handle, column_leave(&c, status));
	free(op.sieve.item);
	uint64_t others = 0;
	if (status == FLAGSTONE_OK && op.removed < limit) {
		struct sieve s = {.cutoff = UINT64_MAX, .limit = limit - op.removed, .younger = FS_ClockSlackMillis + handle->stack->stamp_millis};
		status = handle_leave(handle, evict(handle, &s, &others));
	}
	if (removed)
		*removed = op.removed + others;
	return status;
}
