/* A lookup that computes what is missing, in one process of all (section 15, Waiting). */
#include "handle.h"

#include <string.h>

enum { LOAD_FIRST_PAUSE = 100, LOAD_LONGEST_PAUSE = 10000, LOAD_PATIENCE_SHARE = 8 };

struct loading {
	flagstone *h;
	flagstone_key key;
	uint64_t millis;
	flagstone_loader loader;
	void *context;
	flagstone_value *value;
};

static flagstone_status load_failed(const flagstone_value *value)
{
	size_t n = value->length <= value->capacity ? value->length : 0;
	return fail(FLAGSTONE_FAILED, "the computation of the value failed: %.*s", (int)(n < 200 ? n : 200), n ? (const char *)value->buffer : "");
}

/* Runs the loader and stores what it made, if there is a claim. */
static flagstone_status load_compute(struct loading *op, uint64_t claim)
{
	flagstone_value *value = op->value;
	flagstone_write write = {0};
	size_t length = 0;
	count(op->h->domain, FS_CounterLoads, 1);
	flagstone_status status = op->loader(op->context, op->key, value->buffer, value->capacity, &length, &write);
	if (length > value->capacity)
		status = FLAGSTONE_BUFFER;
	value->length = length;
	value->expired = false;
	value->tier = write.tier;
	value->tag = write.tag;
	value->stale = write.stale;
	value->expiry = write.ttl ? clock_wall(op->h->domain) + write.ttl : write.expiry;
	value->version = 0;
	if (status != FLAGSTONE_OK) {
		count(op->h->domain, FS_CounterLoadErrors, 1);
		if (length > value->capacity)
			value->length = 0;
		if (claim)
			flagstone_fail(op->h, op->key, claim, value->buffer, value->length, 0);
		return load_failed(value);
	}
	/* Where it cannot be stored it is still the value: whoever asks next computes it again. */
	if (claim && flagstone_fill(op->h, op->key, claim, value->buffer, length, &write, &value->version) > FLAGSTONE_NO)
		value->version = 0;
	return FLAGSTONE_OK;
}

/* The claim on the key, as it is without a lock. */
static flagstone_status load_look(struct loading *op, struct claim *claim, flagstone_value *text, uint64_t *version)
{
	struct stored_key stored;
	unsigned char near[FS_ClaimText + CLAIM_TEXT];
	*claim = (struct claim){0};
	flagstone_status status = handle_enter(op->h);
	if (status != FLAGSTONE_OK)
		return status;
	struct answer answer = {.buffer = near, .capacity = sizeof near};
	status = stored_key_begin(op->h, &op->key, false, &stored);
	if (status == FLAGSTONE_OK) {
		struct key key = key_claim(stored.key);
		status = lookup(op->h->stack, &key, LOOKUP_PEEK | LOOKUP_ANY | LOOKUP_UNCOUNTED, &answer);
	}
	stored_key_end(&stored);
	if ((status = handle_leave(op->h, status)) != FLAGSTONE_OK)
		return status;
	if (answer.length > sizeof near) /* no claim that a peer writes */
		return FLAGSTONE_NO;
	*claim = claim_parse(near, answer.length);
	*version = answer.version;
	text->length = claim->valid && claim->text <= text->capacity ? claim->text : 0;
	if (text->length)
		memcpy(text->buffer, near + FS_ClaimText, text->length);
	return FLAGSTONE_OK;
}

/* Waits for another's computation. FLAGSTONE_NO: begin with Claim again; FLAGSTONE_FAILED; FLAGSTONE_OK: the value. */
static flagstone_status load_wait(struct loading *op, uint64_t highest, uint64_t deadline)
{
	uint64_t begun = mono_ns();
	struct domain *d = op->h->domain;
	count(d, FS_CounterLoadWaits, 1);
	for (;;) {
		uint64_t waited = (mono_ns() - begun) / 1000 / LOAD_PATIENCE_SHARE;
		pause_us((uint32_t)(waited < LOAD_FIRST_PAUSE ? LOAD_FIRST_PAUSE : waited > LOAD_LONGEST_PAUSE ? LOAD_LONGEST_PAUSE : waited));
		struct claim claim;
		uint64_t version = 0;
		flagstone_status status = load_look(op, &claim, op->value, &version);
		if (status != FLAGSTONE_OK && status != FLAGSTONE_NO)
			return status == FLAGSTONE_BUSY ? FLAGSTONE_NO : status;
		if (status == FLAGSTONE_OK && claim.valid && claim.state == FS_ClaimLoading) {
			if (!claim_held(d, &claim, clock_domain(d)))
				return FLAGSTONE_NO;
			highest = version > highest ? version : highest;
			if (deadline_over(deadline))
				return fail(FLAGSTONE_BUSY, "another's computation of the value takes longer than the patience");
			continue;
		}
		if (status == FLAGSTONE_OK && claim.valid && (claim.ended >= highest || claim_warns(&claim, clock_wall(d))))
			return load_failed(op->value);
		status = flagstone_get(op->h, op->key, op->value);
		return status == FLAGSTONE_BUSY ? FLAGSTONE_NO : status;
	}
}

flagstone_status flagstone_load(flagstone *handle, flagstone_key key, uint64_t millis, flagstone_loader loader, void *context,
                                flagstone_value *value)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	if (!loader || !value)
		return fail(FLAGSTONE_OPTIONS, "load: no loader or no place for the value");
	struct loading op = {handle, key, millis, loader, context, value};
	uint64_t patience = millis + atomic_load(&handle->patience);
	uint64_t deadline = deadline_in(patience < UINT32_MAX ? (uint32_t)patience : UINT32_MAX);
	status = flagstone_get(handle, key, value);
	while (status == FLAGSTONE_NO) {
		flagstone_claimed outcome;
		if ((status = flagstone_claim(handle, key, millis, &outcome, value)) != FLAGSTONE_OK)
			return status;
		uint64_t claim = value->version;
		switch (outcome) {
		case FLAGSTONE_CLAIM_VALUE:
			return FLAGSTONE_OK;
		case FLAGSTONE_CLAIM_FAILED:
			return load_failed(value);
		case FLAGSTONE_CLAIM_MINE:
			return load_compute(&op, claim);
		case FLAGSTONE_CLAIM_NOROOM:
			return load_compute(&op, 0);
		case FLAGSTONE_CLAIM_HELD:
			break;
		}
		status = flagstone_stale(handle, key, value);
		if (status != FLAGSTONE_NO && status != FLAGSTONE_BUSY) {
			if (status == FLAGSTONE_OK && value->expired)
				count(handle->domain, FS_CounterStale, 1);
			return status;
		}
		status = load_wait(&op, claim, deadline);
		if (status == FLAGSTONE_NO && deadline_over(deadline))
			return fail(FLAGSTONE_BUSY, "the value was claimed again and again for longer than the patience");
	}
	return status;
}
