/* Claims (section 15): of all that miss a key one computes its value. */
#include "handle.h"

#include <string.h>

enum { CLAIM_TEXT = 1024 }; /* most bytes of an error's text */

/* The fixed part of a claim's value. */
struct claim {
	bool valid;
	uint64_t state, owner, deadline, ended, until;
	uint32_t text;               /* bytes of the error's text */
};

static struct claim claim_parse(const unsigned char *bytes, size_t length)
{
	struct claim claim = {.valid = length >= FS_ClaimText};
	if (!claim.valid)
		return claim;
	claim.state = from_little_endian(bytes + FS_ClaimState);
	claim.owner = from_little_endian(bytes + FS_ClaimOwner);
	claim.deadline = from_little_endian(bytes + FS_ClaimDeadline);
	claim.ended = from_little_endian(bytes + FS_ClaimEnded);
	claim.until = from_little_endian(bytes + FS_ClaimUntil);
	claim.text = (uint32_t)(length - FS_ClaimText);
	claim.valid = claim.state == FS_ClaimLoading || claim.state == FS_ClaimFailed;
	return claim;
}

static void claim_print(unsigned char bytes[FS_ClaimText], const struct claim *claim)
{
	little_endian(bytes + FS_ClaimState, claim->state);
	little_endian(bytes + FS_ClaimOwner, claim->owner);
	little_endian(bytes + FS_ClaimDeadline, claim->deadline);
	little_endian(bytes + FS_ClaimEnded, claim->ended);
	little_endian(bytes + FS_ClaimUntil, claim->until);
}

/* "Judging": loading, and not nobody's. A region number of 0 is out of range as any other that is no region's. */
static bool claim_held(struct domain *d, const struct claim *claim, uint64_t now)
{
	bool named = (claim->owner >> FS_LockRegionShift & 0xffff) != 0;
	return claim->valid && claim->state == FS_ClaimLoading && now < claim->deadline && named && !token_dead(d, claim->owner);
}

/* Failed, and everybody is to get the error. */
static bool claim_warns(const struct claim *claim, uint64_t wall)
{
	return claim->valid && claim->state == FS_ClaimFailed && wall < claim->until;
}

static flagstone_status claim_read(struct column *c, const struct found *found, struct claim *claim)
{
	unsigned char bytes[FS_ClaimText];
	*claim = (struct claim){0};
	if (found->cell == 0 || found->value_length < FS_ClaimText)
		return FLAGSTONE_OK;
	flagstone_status status = record_value(c, found, 0, bytes, FS_ClaimText);
	if (status == FLAGSTONE_OK)
		*claim = claim_parse(bytes, found->value_length);
	return status;
}

/* --- Claim --- */

struct claiming {
	struct key key;
	uint64_t millis;
	flagstone_claimed outcome;
	flagstone_value *value;      /* the caller's */
	uint64_t written;            /* the version of the claim that this call has written */
};

static flagstone_status claim_copy(struct column *c, const struct found *found, uint32_t from, flagstone_value *value)
{
	value->length = found->value_length - from;
	value->version = found->version;
	value->expiry = found->expiry & FS_ExpiryMask;
	value->stale = (uint32_t)(found->expiry >> FS_ExpiryStaleShift);
	value->tag = found->tag;
	value->tier = found->tier;
	value->expired = false;
	if (value->length > value->capacity)
		return FLAGSTONE_OK; /* the caller says so, without the lock */
	return record_value(c, found, from, value->buffer, (uint32_t)value->length);
}

/* Step 3: in place of the claim that is there, or, where there is no room otherwise, of the expired value. */
static flagstone_status claim_write(struct column *c, struct claiming *op, const struct record *record, struct found *value, struct found *old)
{
	struct found written = {0};
	flagstone_status status = record_set(c, 0, record, old->cell ? old : NULL, false, &written);
	if (status == FLAGSTONE_FULL && value->cell) {
		/* What was moved down meanwhile stands elsewhere. */
		if ((status = record_find(c, &op->key, value)) != FLAGSTONE_OK || (status = record_find(c, &record->key, old)) != FLAGSTONE_OK)
			return status;
		status = value->cell ? record_room(c, 0, geometry_cells(&c->view->slab[0]->geometry, record->key.length + record->length), value, false)
		                     : FLAGSTONE_FULL;
		if (status != FLAGSTONE_OK)
			return status;
		if (old->cell && (status = record_remove(c, old)) != FLAGSTONE_OK)
			return status;
		if ((status = record_find(c, &op->key, value)) != FLAGSTONE_OK)
			return status;
		status = record_set(c, 0, record, value->cell ? value : NULL, false, &written);
	}
	op->written = status == FLAGSTONE_OK ? written.version : 0;
	return status;
}

static flagstone_status claim_take(struct column *c, struct claiming *op)
{
	struct domain *d = c->stack->domain;
	struct found value, old;
	struct claim claim;
	struct key key = key_claim(op->key);
	flagstone_status status;
	if ((status = record_find(c, &op->key, &value)) != FLAGSTONE_OK || (status = record_find(c, &key, &old)) != FLAGSTONE_OK)
		return status;
	if (value.cell && !expiry_over(value.expiry, c->wall)) {
		op->outcome = FLAGSTONE_CLAIM_VALUE;
		return claim_copy(c, &value, 0, op->value);
	}
	if ((status = claim_read(c, &old, &claim)) != FLAGSTONE_OK)
		return status;
	if (claim_warns(&claim, c->wall)) {
		op->outcome = FLAGSTONE_CLAIM_FAILED;
		return claim_copy(c, &old, FS_ClaimText, op->value);
	}
	if (claim_held(d, &claim, c->now)) {
		op->outcome = FLAGSTONE_CLAIM_HELD;
		op->value->version = old.version;
		return FLAGSTONE_OK;
	}
	unsigned char bytes[FS_ClaimText];
	uint64_t deadline = c->now + op->millis;
	claim = (struct claim){.state = FS_ClaimLoading, .owner = d->token, .deadline = deadline < op->millis ? UINT64_MAX : deadline};
	claim_print(bytes, &claim);
	struct record record = {.key = key, .value = bytes, .length = FS_ClaimText};
	status = claim_write(c, op, &record, &value, &old);
	if (status == FLAGSTONE_FULL || status == FLAGSTONE_TOOLARGE) {
		op->outcome = FLAGSTONE_CLAIM_NOROOM;
		return FLAGSTONE_OK;
	}
	op->outcome = FLAGSTONE_CLAIM_MINE;
	op->value->version = op->written;
	return status;
}

static flagstone_status claim_begin(flagstone *h, struct claiming *op)
{
	struct column c;
	flagstone_status status = column_enter(&c, h->stack, key_shard(h->stack, &op->key), handle_deadline(h));
	if (status != FLAGSTONE_OK)
		return status;
	do
		status = claim_take(&c, op);
	while (column_again(&c, &status));
	return handle_leave(h, column_leave(&c, status));
}

/* --- Fill, Release, Fail: all compare the version that Claim returned --- */

struct ending {
	struct key key;
	uint64_t claim;
	const struct record *value;  /* Fill: what is stored */
	uint32_t tier;
	bool fails;                  /* Fail */
	const void *text;
	size_t length;
	uint64_t until;
	bool ended;                  /* the claim was removed, before words turned out to be broken */
	struct found written;
};

static flagstone_status claim_failed(struct column *c, struct ending *op, const struct found *old)
{
	size_t most = c->stack->max_value - FS_ClaimText, length = op->length;
	unsigned char bytes[FS_ClaimText + CLAIM_TEXT];
	length = length < CLAIM_TEXT ? length : CLAIM_TEXT;
	length = length < most ? length : most;
	struct claim claim = {.state = FS_ClaimFailed, .owner = c->stack->domain->token, .ended = op->claim, .until = op->until};
	claim_print(bytes, &claim);
	if (length)
		memcpy(bytes + FS_ClaimText, op->text, length);
	struct record record = {.key = key_claim(op->key), .value = bytes, .length = FS_ClaimText + length};
	struct found now = *old;
	flagstone_status status = record_set(c, 0, &record, &now, false, &op->written);
	if ((status == FLAGSTONE_FULL || status == FLAGSTONE_TOOLARGE) && length) {
		record.length = FS_ClaimText;
		if ((status = record_find(c, &record.key, &now)) == FLAGSTONE_OK)
			status = record_set(c, 0, &record, now.cell ? &now : NULL, false, &op->written);
	}
	if (status != FLAGSTONE_FULL && status != FLAGSTONE_TOOLARGE)
		return status;
	/* Nobody is to wait for what will not come. */
	if ((status = record_find(c, &record.key, &now)) != FLAGSTONE_OK || now.cell == 0)
		return status;
	return record_remove(c, &now);
}

static flagstone_status claim_end_once(struct column *c, struct ending *op)
{
	struct found value, old;
	struct key key = key_claim(op->key);
	flagstone_status status;
	if ((status = record_find(c, &op->key, &value)) != FLAGSTONE_OK || (status = record_find(c, &key, &old)) != FLAGSTONE_OK)
		return status;
	if (op->written.version && (op->fails ? old.cell && old.version == op->written.version : value.cell && value.version == op->written.version))
		return FLAGSTONE_OK;
	if (!op->ended && (old.cell == 0 || old.version != op->claim))
		return fail(FLAGSTONE_CLAIMLOST, "the claim %llu has gone: the key was set, deleted or claimed by another", (unsigned long long)op->claim);
	if (op->fails)
		return claim_failed(c, op, &old);
	if (!op->ended) {
		op->ended = true;
		if ((status = record_remove(c, &old)) != FLAGSTONE_OK)
			return status;
	}
	if (!op->value)
		return FLAGSTONE_OK;
	return record_set(c, op->tier, op->value, value.cell ? &value : NULL, false, &op->written);
}

static flagstone_status claim_end(flagstone *h, struct ending *op)
{
	struct column c;
	flagstone_status status = column_enter(&c, h->stack, key_shard(h->stack, &op->key), handle_deadline(h));
	if (status != FLAGSTONE_OK)
		return status;
	do
		status = claim_end_once(&c, op);
	while (column_again(&c, &status));
	return handle_leave(h, column_leave(&c, status));
}

/* --- Public --- */

flagstone_status flagstone_claim(flagstone *handle, flagstone_key key, uint64_t millis, flagstone_claimed *outcome, flagstone_value *value)
{
	struct stored_key stored = {.far = NULL};
	flagstone_value unwanted = {0};
	struct claiming op = {.millis = millis, .value = value ? value : &unwanted};
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = stored_key_begin(handle, &key, true, &stored);
	if (status == FLAGSTONE_OK) {
		op.key = stored.key;
		status = claim_begin(handle, &op);
	}
	stored_key_end(&stored);
	if (status != FLAGSTONE_OK)
		return status;
	if (outcome)
		*outcome = op.outcome;
	bool bytes = op.outcome == FLAGSTONE_CLAIM_VALUE || op.outcome == FLAGSTONE_CLAIM_FAILED;
	if (value && bytes && value->length > value->capacity)
		return fail(FLAGSTONE_BUFFER, "a value of %zu bytes, the buffer has %zu", value->length, value->capacity);
	return FLAGSTONE_OK;
}

/* The key of a claim that the caller has: a namespace without an id was cleared, and the claim with it. */
static flagstone_status claim_key(flagstone *handle, const flagstone_key *key, struct stored_key *stored)
{
	stored->far = NULL;
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = stored_key_begin(handle, key, false, stored);
	return status == FLAGSTONE_NO ? fail(FLAGSTONE_CLAIMLOST, "the claim's namespace was cleared") : status;
}

flagstone_status flagstone_release(flagstone *handle, flagstone_key key, uint64_t claim)
{
	struct stored_key stored;
	flagstone_status status = claim_key(handle, &key, &stored);
	if (status == FLAGSTONE_OK) {
		struct ending op = {.key = stored.key, .claim = claim};
		status = claim_end(handle, &op);
	}
	stored_key_end(&stored);
	return status;
}

flagstone_status flagstone_fill(flagstone *handle, flagstone_key key, uint64_t claim, const void *value, size_t length,
                                const flagstone_write *write, uint64_t *version)
{
	struct stored_key stored;
	struct record record;
	uint32_t tier = 0;
	flagstone_status status = claim_key(handle, &key, &stored);
	if (status != FLAGSTONE_OK) {
		stored_key_end(&stored);
		return status;
	}
	struct ending op = {.key = stored.key, .claim = claim, .value = &record};
	status = record_make(handle, &stored.key, value, length, write, &record);
	if (status == FLAGSTONE_OK && write && write->tier)
		status = handle_tier(handle, write->tier, &tier);
	flagstone_status refused = status;
	if (refused != FLAGSTONE_OK)
		op.value = NULL; /* who fails to store ends the claim */
	op.tier = tier;
	status = claim_end(handle, &op);
	if (status != FLAGSTONE_OK && status != FLAGSTONE_BUSY)
		count(handle->domain, FS_CounterRefused, 1);
	stored_key_end(&stored);
	if (status == FLAGSTONE_OK && version)
		*version = op.written.version;
	return status == FLAGSTONE_OK && refused != FLAGSTONE_OK ? fail(refused, "the value of a claim could not be stored, the claim has ended") : status;
}

flagstone_status flagstone_fail(flagstone *handle, flagstone_key key, uint64_t claim, const void *text, size_t length, uint64_t until)
{
	struct stored_key stored;
	flagstone_status status = claim_key(handle, &key, &stored);
	if (status == FLAGSTONE_OK) {
		struct ending op = {.key = stored.key, .claim = claim, .fails = true, .text = text, .length = length, .until = until};
		status = claim_end(handle, &op);
	}
	stored_key_end(&stored);
	return status;
}
