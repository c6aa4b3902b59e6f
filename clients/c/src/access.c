/* Lookups and writes of single records. */
#include "handle.h"

static inline flagstone_status lookup_answer(const struct answer *a, flagstone_value *value)
{
	value->length = a->length;
	value->version = a->version;
	value->expiry = a->expiry & FS_ExpiryMask;
	value->stale = (uint32_t)(a->expiry >> FS_ExpiryStaleShift);
	value->tag = a->tag;
	value->tier = a->tier;
	value->expired = a->stale;
	if (unlikely(a->length > value->capacity) && (value->buffer || value->capacity))
		return fail(FLAGSTONE_BUFFER, "a value of %zu bytes, the buffer has %zu", a->length, value->capacity);
	return FLAGSTONE_OK;
}

static flagstone_status lookup_one(flagstone *handle, const flagstone_key *key, unsigned mode, flagstone_value *value)
{
	struct stored_key stored;
	struct answer answer;
	flagstone_status status = handle_enter(handle);
	if (unlikely(status != FLAGSTONE_OK))
		return status;
	answer.buffer = value ? value->buffer : NULL;
	answer.capacity = value ? value->capacity : 0;
	status = stored_key_begin(handle, key, false, &stored);
	if (likely(status == FLAGSTONE_OK))
		status = lookup(handle->stack, &stored.key, mode, &answer);
	else if (status == FLAGSTONE_NO && !(mode & LOOKUP_UNCOUNTED))
		count(handle->domain, FS_CounterMisses, 1);
	stored_key_end(&stored);
	status = handle_leave(handle, status);
	return status == FLAGSTONE_OK && value ? lookup_answer(&answer, value) : status;
}

/* flagstone_get for the common case, a hit in the first bucket of tier 0 and in one cell: the steps of section 13 in a straight line, so that the
 * processor has the next lookup's memory on its way. Everything else, errors too, it leaves to lookup_one. */
static inline bool glance(flagstone *handle, const flagstone_key *key, uint64_t hash, flagstone_value *value)
{
	struct domain *d = handle->domain;
	struct stack *stack = handle->stack;
	if (unlikely(domain_ready(d) != FLAGSTONE_OK || handle->life != d->life || stack->reader || key->length > stack->max_key))
		return false;
	busy(d);
	const struct slab *slab = stack_view(stack)->slab[0];
	uint32_t shard = (uint32_t)hash & (stack->shards - 1), tag = (uint32_t)(hash >> FS_SlotTagShift);
	const struct shard *s = &slab->shards[shard];
	struct FS_Bucket *b = &s->buckets[bucket_of(&slab->geometry, hash)];
	uint64_t epoch = atomic_load(&s->head->Epoch); /* pairs with who moves up or rebuilds */
	unsigned match = bucket_match(b, tag);
	if (unlikely(match == 0 || epoch & FS_EpochRebuilding))
		return false;
	_Atomic(uint64_t) *slot = &b->Slots[__builtin_ctz(match)];
	uint64_t name = atomic_load(slot); /* pairs with the store that names a record */
	uint32_t cell = slot_cell(name);
	if (unlikely((uint32_t)(name >> FS_SlotTagShift) != tag || !cell_exists(s, cell)))
		return false;
	struct FS_CellHeader *h = cell_at(s, cell);
	uint64_t version = atomic_load(&h->Version); /* pairs with the store of LIVE */
	uint64_t recency = word_get(&h->Recency), expiry = word_get(&h->Expiry);
	uint32_t length = word_get(&h->ValueLength), user = word_get(&h->UserTag);
	if (unlikely(!version_live(version, shard) || word_get(&h->KeyFlags) != key->length || length > value->capacity ||
	             key->length + (uint64_t)length > slab->geometry.cell_size - HEAD_BYTES ||
	             ((expiry & FS_ExpiryMask) != 0 && expiry_over(expiry, clock_wall(d))) ||
	             !bytes_equal((unsigned char *)h, HEAD_BYTES, key->bytes, key->length)))
		return false;
	if (likely(length > 0))
		bytes_out(value->buffer, (unsigned char *)h, HEAD_BYTES + key->length, length);
	fence(memory_order_acquire); /* pairs with the fence behind PART */
	if (unlikely(atomic_load(&h->Version) != version || atomic_load(slot) != name || ((atomic_load(&s->head->Epoch) ^ epoch) & FS_EpochRebuildMask) != 0 ||
	             domain_ready(d) != FLAGSTONE_OK))
		return false;
	value->length = length;
	value->version = version;
	value->expiry = expiry & FS_ExpiryMask;
	value->stale = (uint32_t)(expiry >> FS_ExpiryStaleShift);
	value->tag = user;
	value->tier = 0;
	value->expired = false;
	if (unlikely(recency_stamp(recency) + stack->stamp_millis < clock_domain(d) ||
	             recency_turn(recency) != (word_get(&s->head->Turn) & FS_RecencyTurnMask) || order_s3fifo(s))) {
		struct answer used = {.recency = recency, .version = version, .tier = 0};
		read_use(stack, stack_view(stack), shard, cell, &used);
	}
	count(d, FS_CounterHits, 1);
	count(d, FS_CounterTierHits, 1);
	return true;
}

flagstone_status flagstone_get(flagstone *handle, flagstone_key key, flagstone_value *value)
{
	if (likely(handle && value && key.bytes && !key.space) && glance(handle, &key, hash_xxh3(key.bytes, key.length, handle->stack->seed), value))
		return FLAGSTONE_OK;
	return lookup_one(handle, &key, 0, value);
}

flagstone_status flagstone_peek(flagstone *handle, flagstone_key key, flagstone_value *value)
{
	return lookup_one(handle, &key, LOOKUP_PEEK, value);
}

flagstone_status flagstone_stale(flagstone *handle, flagstone_key key, flagstone_value *value)
{
	return lookup_one(handle, &key, LOOKUP_STALE, value);
}

enum { BATCH = 16 }; /* keys whose lines are asked for before the first of them is looked up */

/* Asks for the memory of plain keys, the buckets' first. */
static inline void batch_ahead(const struct stack *stack, const flagstone_key *keys, uint64_t *hashes, size_t many)
{
	const struct slab *top = stack_view((struct stack *)stack)->slab[0];
	for (size_t i = 0; i < many; i++) {
		hashes[i] = keys[i].bytes && !keys[i].space ? hash_xxh3(keys[i].bytes, keys[i].length, stack->seed) : 0;
		bucket_prefetch(&top->shards[hashes[i] & (stack->shards - 1)], hashes[i]);
	}
	for (size_t i = 0; i < many; i++)
		cells_prefetch(&top->shards[hashes[i] & (stack->shards - 1)], hashes[i]);
}

flagstone_status flagstone_batch(flagstone *handle, const flagstone_key *keys, flagstone_value *values, size_t many)
{
	uint64_t hashes[BATCH];
	flagstone_status first = handle_enter(handle);
	if (unlikely(first != FLAGSTONE_OK)) {
		for (size_t i = 0; i < many; i++)
			values[i].status = first;
		return first;
	}
	for (size_t done = 0; done < many; done += BATCH) {
		size_t end = many - done < BATCH ? many : done + BATCH;
		batch_ahead(handle->stack, keys + done, hashes, end - done);
		for (size_t i = done; i < end; i++)
			values[i].status = likely(keys[i].bytes && !keys[i].space) && glance(handle, &keys[i], hashes[i - done], &values[i])
			                       ? FLAGSTONE_OK
			                       : lookup_one(handle, &keys[i], 0, &values[i]);
		for (size_t i = done; i < end && first == FLAGSTONE_OK; i++)
			if (values[i].status > FLAGSTONE_NO && values[i].status != FLAGSTONE_BUFFER)
				first = values[i].status;
	}
	return first;
}

size_t flagstone_max_value(flagstone *handle)
{
	return handle ? handle->stack->max_value : 0;
}

/* --- Writing --- */

static flagstone_status record_make(struct flagstone *h, const struct key *key, const void *value, size_t length, const flagstone_write *write,
                                    struct record *record)
{
	*record = (struct record){.key = *key, .value = value ? value : "", .length = length};
	if (length > h->stack->max_value)
		return fail(FLAGSTONE_VALUETOOLONG, "a value of %zu bytes, the limit is %u", length, h->stack->max_value);
	if (!write)
		return FLAGSTONE_OK;
	uint64_t expiry = write->expiry;
	if (write->ttl > FS_ExpiryMask)
		return fail(FLAGSTONE_EXPIRY, "a time to live of %llu ms", (unsigned long long)write->ttl);
	if (write->ttl)
		expiry = clock_wall(h->domain) + write->ttl;
	if (expiry > FS_ExpiryMask || write->stale > UINT16_MAX)
		return fail(FLAGSTONE_EXPIRY, "an expiry of %llu ms and %u stale seconds", (unsigned long long)expiry, write->stale);
	record->expiry = expiry_pack(expiry, write->stale);
	record->tag = write->tag;
	return FLAGSTONE_OK;
}

/* The first steps of all that store: the key, made if its namespace is new, and the record. */
static flagstone_status store_begin(flagstone *handle, const flagstone_key *key, bool make, const void *value, size_t length,
                                    const flagstone_write *write, struct stored_key *stored, struct record *record, uint32_t *tier)
{
	stored->far = NULL;
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = stored_key_begin(handle, key, make, stored);
	if (status == FLAGSTONE_OK)
		status = record_make(handle, &stored->key, value, length, write, record);
	*tier = 0;
	if (status == FLAGSTONE_OK && write && write->tier)
		status = handle_tier(handle, write->tier, tier);
	return status;
}

static flagstone_status store(flagstone *handle, const flagstone_key *key, enum condition condition, uint64_t expected, const void *value,
                              size_t length, const flagstone_write *write, uint64_t *version)
{
	struct stored_key stored;
	struct record record;
	uint32_t tier;
	/* A namespace without an id has no record that could be replaced. */
	bool make = condition == IF_ALWAYS || condition == IF_ABSENT;
	flagstone_status status = store_begin(handle, key, make, value, length, write, &stored, &record, &tier);
	if (status == FLAGSTONE_OK)
		status = handle_leave(handle, write_set(handle->stack, &record, tier, condition, expected, handle_deadline(handle), version));
	stored_key_end(&stored);
	return status;
}

flagstone_status flagstone_set(flagstone *handle, flagstone_key key, const void *value, size_t length, const flagstone_write *write,
                               uint64_t *version)
{
	return store(handle, &key, IF_ALWAYS, 0, value, length, write, version);
}

flagstone_status flagstone_add(flagstone *handle, flagstone_key key, const void *value, size_t length, const flagstone_write *write,
                               uint64_t *version)
{
	return store(handle, &key, IF_ABSENT, 0, value, length, write, version);
}

flagstone_status flagstone_replace(flagstone *handle, flagstone_key key, const void *value, size_t length, const flagstone_write *write,
                                   uint64_t *version)
{
	return store(handle, &key, IF_PRESENT, 0, value, length, write, version);
}

flagstone_status flagstone_cas(flagstone *handle, flagstone_key key, uint64_t expected, const void *value, size_t length,
                               const flagstone_write *write, uint64_t *version)
{
	return store(handle, &key, IF_VERSION, expected, value, length, write, version);
}

flagstone_status flagstone_incr(flagstone *handle, flagstone_key key, int64_t delta, int64_t initial, const flagstone_write *write,
                                int64_t *sum)
{
	struct stored_key stored;
	struct record record;
	uint32_t tier;
	flagstone_status status = store_begin(handle, &key, true, NULL, 0, write, &stored, &record, &tier);
	if (status == FLAGSTONE_OK)
		status = handle_leave(handle, write_add(handle->stack, &record, delta, initial, handle_deadline(handle), sum));
	stored_key_end(&stored);
	return status;
}

flagstone_status flagstone_del(flagstone *handle, flagstone_key key)
{
	struct stored_key stored = {.far = NULL};
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = stored_key_begin(handle, &key, false, &stored);
	if (status == FLAGSTONE_OK)
		status = handle_leave(handle, write_delete(handle->stack, &stored.key, handle_deadline(handle)));
	stored_key_end(&stored);
	return status;
}

flagstone_status flagstone_touch(flagstone *handle, flagstone_key key, uint64_t expiry)
{
	struct stored_key stored = {.far = NULL};
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK && expiry > FS_ExpiryMask)
		status = fail(FLAGSTONE_EXPIRY, "an expiry of %llu ms", (unsigned long long)expiry);
	if (status == FLAGSTONE_OK)
		status = stored_key_begin(handle, &key, false, &stored);
	if (status == FLAGSTONE_OK)
		status = handle_leave(handle, write_touch(handle->stack, &stored.key, expiry, handle_deadline(handle)));
	stored_key_end(&stored);
	return status;
}
