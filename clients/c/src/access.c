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

static inline flagstone_status lookup_one(flagstone *handle, flagstone_key *key, unsigned mode, flagstone_value *value)
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

flagstone_status flagstone_get(flagstone *handle, flagstone_key key, flagstone_value *value)
{
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

enum { BATCH = 64 };

/* Up to BATCH keys; those in namespaces without an id are misses and not looked up. */
static flagstone_status batch_some(flagstone *handle, const flagstone_key *keys, flagstone_value *values, size_t many)
{
	struct stored_key stored[BATCH];
	struct key looked[BATCH];
	struct answer answers[BATCH];
	flagstone_status status[BATCH], first = FLAGSTONE_OK;
	uint32_t place[BATCH], n = 0;
	for (size_t i = 0; i < many; i++) {
		values[i].status = stored_key_begin(handle, &keys[i], false, &stored[i]);
		if (values[i].status == FLAGSTONE_NO)
			count(handle->domain, FS_CounterMisses, 1);
		if (values[i].status != FLAGSTONE_OK)
			continue;
		looked[n] = stored[i].key;
		answers[n].buffer = values[i].buffer;
		answers[n].capacity = values[i].capacity;
		place[n++] = (uint32_t)i;
	}
	lookup_batch(handle->stack, looked, n, 0, answers, status);
	for (uint32_t j = 0; j < n; j++) {
		flagstone_value *value = &values[place[j]];
		value->status = status[j] == FLAGSTONE_OK ? lookup_answer(&answers[j], value) : status[j];
	}
	for (size_t i = 0; i < many; i++) {
		stored_key_end(&stored[i]);
		if (first == FLAGSTONE_OK && values[i].status > FLAGSTONE_NO && values[i].status != FLAGSTONE_BUFFER)
			first = values[i].status;
	}
	return first;
}

flagstone_status flagstone_batch(flagstone *handle, const flagstone_key *keys, flagstone_value *values, size_t many)
{
	flagstone_status first = handle_enter(handle);
	if (first != FLAGSTONE_OK)
		return first;
	for (size_t done = 0; done < many; done += BATCH) {
		size_t n = many - done < BATCH ? many - done : BATCH;
		flagstone_status status = batch_some(handle, keys + done, values + done, n);
		if (first == FLAGSTONE_OK)
			first = status;
	}
	return handle_leave(handle, first);
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
