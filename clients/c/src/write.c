/* Set, delete, counters, touch (PROTOCOL.md, 14): each takes the column's lock, works, and gives it back. */

static flagstone_status write_end_claim(struct column *c, const struct key *key)
{
	struct key claim = key_claim(*key);
	struct found found;
	flagstone_status status = record_find(c, &claim, &found);
	return status == FLAGSTONE_OK && found.cell != 0 ? record_remove(c, &found) : status;
}

/* Is it long enough to go there? */
static flagstone_status write_allowed(const struct stack *stack, const struct record *record)
{
	if (record->key.length > stack->max_key)
		return fail(FLAGSTONE_KEYTOOLONG, "a key of %" PRIu32 " bytes, the longest being %" PRIu32, record->key.length, stack->max_key);
	if (record->length > stack->max_value)
		return fail(FLAGSTONE_VALUETOOLONG, "a value of %" PRIu64 " bytes, the longest being %" PRIu32, record->length, stack->max_value);
	return FLAGSTONE_OK;
}

static flagstone_status write_tier(const struct column *c, uint32_t tier, const struct record *record)
{
	if (tier >= c->tiers)
		return fail(FLAGSTONE_NOSLAB, "there is no tier %" PRIu32 " of %" PRIu32, tier, c->tiers);
	if (!tier_allows(c, tier, record->key.length, record->length))
		return fail(FLAGSTONE_TOOLARGE, "a record of %" PRIu32 " and %" PRIu64 " bytes is too large for tier %" PRIu32, record->key.length,
		            record->length, tier);
	if (!tier_takes(c, tier))
		return fail(FLAGSTONE_FULL, "tier %" PRIu32 " takes no records", tier);
	return FLAGSTONE_OK;
}

static bool write_holds(const struct column *c, const struct found *old, enum condition condition, uint64_t expected)
{
	bool there = old->cell != 0 && !expiry_over(old->expiry, c->wall);
	switch (condition) {
	case IF_ABSENT:
		return !there;
	case IF_PRESENT:
		return there;
	case IF_VERSION:
		return there && old->version == expected;
	default:
		return true;
	}
}

/* Broken words: is what is there what an earlier try under this lock has written? Then that is done. */
static bool write_done(const struct found *there, struct found *written)
{
	if (written->version == 0 || there->cell == 0 || there->version != written->version)
		return false;
	*written = *there;
	return true;
}

/* One try. */
static flagstone_status write_try(struct column *c, const struct record *record, uint32_t tier, enum condition condition, uint64_t expected,
                                  struct found *written)
{
	struct found old;
	flagstone_status status = record_find(c, &record->key, &old);
	if (status != FLAGSTONE_OK)
		return status;
	if (write_done(&old, written))
		return FLAGSTONE_OK;
	if (!write_holds(c, &old, condition, expected))
		return FLAGSTONE_NO;
	status = write_tier(c, tier, record);
	if (status == FLAGSTONE_OK || status == FLAGSTONE_FULL) {
		flagstone_status ended = write_end_claim(c, &record->key); /* also where there is no room (claim.pml BREAK_SET) */
		if (ended != FLAGSTONE_OK)
			return ended;
	}
	return status == FLAGSTONE_OK ? record_set(c, tier, record, &old, false, written) : status;
}

static flagstone_status write_set_in(struct column *c, const struct record *record, uint32_t tier, enum condition condition, uint64_t expected,
                                     struct found *written)
{
	flagstone_status status;
	*written = found_none;
	c->mended = false;
	do
		status = write_try(c, record, tier, condition, expected, written);
	while (column_again(c, &status));
	if (status == FLAGSTONE_OK)
		count(c->stack->domain, FS_CounterSets, 1);
	return status;
}

static flagstone_status write_set(struct stack *stack, const struct record *record, uint32_t tier, enum condition condition, uint64_t expected,
                                  uint64_t deadline, uint64_t *version)
{
	struct column c;
	struct found written;
	flagstone_status status = write_allowed(stack, record);
	if (status == FLAGSTONE_OK)
		status = column_enter(&c, stack, key_shard(stack, &record->key), deadline);
	if (status != FLAGSTONE_OK)
		return status;
	status = column_leave(&c, write_set_in(&c, record, tier, condition, expected, &written));
	if (status == FLAGSTONE_OK && version)
		*version = written.version;
	return status;
}

/* FLAGSTONE_NO: there was nothing, or what had expired. *done: the version that an earlier try under this lock has removed. */
static flagstone_status write_delete_try(struct column *c, const struct key *key, flagstone_status *answer)
{
	struct found found;
	flagstone_status status = write_end_claim(c, key);
	if (status == FLAGSTONE_OK)
		status = record_find(c, key, &found);
	if (status != FLAGSTONE_OK || found.cell == 0)
		return status;
	*answer = expiry_over(found.expiry, c->wall) ? FLAGSTONE_NO : FLAGSTONE_OK;
	status = record_remove(c, &found);
	if (status == FLAGSTONE_OK)
		shard_count(&column_shard(c, found.tier)->head->Deletes, 1);
	return status;
}

static flagstone_status write_delete(struct stack *stack, const struct key *key, uint64_t deadline)
{
	struct column c;
	flagstone_status answer = FLAGSTONE_NO;
	flagstone_status status = column_enter(&c, stack, key_shard(stack, key), deadline);
	if (status != FLAGSTONE_OK)
		return status;
	do
		status = write_delete_try(&c, key, &answer);
	while (column_again(&c, &status));
	if (status == FLAGSTONE_OK && answer == FLAGSTONE_OK)
		count(stack->domain, FS_CounterDeletes, 1);
	status = column_leave(&c, status);
	return status == FLAGSTONE_OK ? answer : status;
}

/* The record that an increment writes: its value goes to *sum. */
static flagstone_status write_sum(struct column *c, const struct found *old, int64_t delta, int64_t initial, struct record *record, int64_t *sum)
{
	uint64_t word = (uint64_t)initial;
	if (old->cell != 0 && !expiry_over(old->expiry, c->wall)) {
		if (old->value_length != sizeof word)
			return fail(FLAGSTONE_NOTCOUNTER, "a value of %" PRIu32 " bytes is no counter", old->value_length);
		flagstone_status status = record_value(c, old, 0, &word, sizeof word);
		if (status != FLAGSTONE_OK)
			return status;
		record->expiry = old->expiry;
		record->tag = old->tag;
	}
	if (__builtin_add_overflow((int64_t)word, delta, sum))
		return fail(FLAGSTONE_OVERFLOW, "%" PRId64 " and %" PRId64 " leave 64 bits", (int64_t)word, delta);
	record->value = sum;
	record->length = sizeof *sum;
	return FLAGSTONE_OK;
}

static flagstone_status write_add_try(struct column *c, const struct record *record, int64_t delta, int64_t initial, struct found *written, int64_t *sum)
{
	struct record counter = *record;
	struct found old;
	flagstone_status status = record_find(c, &record->key, &old);
	if (status != FLAGSTONE_OK || write_done(&old, written))
		return status;
	status = write_sum(c, &old, delta, initial, &counter, sum);
	if (status == FLAGSTONE_OK)
		status = write_end_claim(c, &record->key);
	return status == FLAGSTONE_OK ? record_set(c, 0, &counter, &old, false, written) : status;
}

static flagstone_status write_add(struct stack *stack, const struct record *record, int64_t delta, int64_t initial, uint64_t deadline, int64_t *sum)
{
	struct column c;
	struct found written = found_none;
	int64_t total = 0;
	flagstone_status status = write_allowed(stack, record);
	if (status == FLAGSTONE_OK)
		status = column_enter(&c, stack, key_shard(stack, &record->key), deadline);
	if (status != FLAGSTONE_OK)
		return status;
	do
		status = write_add_try(&c, record, delta, initial, &written, &total);
	while (column_again(&c, &status));
	if (status == FLAGSTONE_OK)
		count(stack->domain, FS_CounterSets, 1);
	status = column_leave(&c, status);
	if (status == FLAGSTONE_OK && sum)
		*sum = total;
	return status;
}

static flagstone_status write_touch_try(struct column *c, const struct key *key, uint64_t expiry, flagstone_status *answer)
{
	struct found found;
	flagstone_status status = record_find(c, key, &found);
	if (status != FLAGSTONE_OK || found.cell == 0 || (*answer == FLAGSTONE_NO && expiry_over(found.expiry, c->wall)))
		return status;
	*answer = FLAGSTONE_OK;
	atomic_store(&cell_at(column_shard(c, found.tier), found.cell)->Expiry, (found.expiry & ~FS_ExpiryMask) | expiry); /* lookups load it */
	record_use(c, &found);
	return record_front(c, &found);
}

static flagstone_status write_touch(struct stack *stack, const struct key *key, uint64_t expiry, uint64_t deadline)
{
	struct column c;
	flagstone_status answer = FLAGSTONE_NO;
	if (expiry > FS_ExpiryMask)
		expiry = FS_ExpiryMask;
	flagstone_status status = column_enter(&c, stack, key_shard(stack, key), deadline);
	if (status != FLAGSTONE_OK)
		return status;
	do
		status = write_touch_try(&c, key, expiry, &answer);
	while (column_again(&c, &status));
	status = column_leave(&c, status);
	return status == FLAGSTONE_OK ? answer : status;
}
