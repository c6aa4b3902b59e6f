/* Scan (section 13): page by page, a page being the keys of one bucket of tier 0, copied without a lock and believed if the epoch stood still. */
#include "handle.h"

#include <stdlib.h>
#include <string.h>

enum { SCAN_TRIES = 64 };

/* A record of the page: its bytes are at `at`, key first. */
struct page_record {
	flagstone_record record;
	size_t at;
};

struct page {
	uint32_t shard, first, last;
	uint32_t tier;               /* being walked */
	struct page_record *item;
	size_t count, room;
	size_t most;                 /* records there can be: a chain bent into a ring has more */
	unsigned char *bytes;
	size_t used, bytes_room;
	bool no_memory, endless;
};

static bool page_grow(struct page *p, size_t n)
{
	if (p->count == p->room) {
		size_t room = p->room ? 2 * p->room : 32;
		struct page_record *item = realloc(p->item, room * sizeof *item);
		if (!item)
			return false;
		p->item = item;
		p->room = room;
	}
	if (p->used + n > p->bytes_room || !p->bytes) {
		size_t room = 2 * p->bytes_room + n + 256;
		unsigned char *bytes = realloc(p->bytes, room);
		if (!bytes)
			return false;
		p->bytes = bytes;
		p->bytes_room = room;
	}
	return true;
}

static bool page_has(const struct page *p, const struct found *found, const void *key)
{
	for (size_t i = 0; i < p->count; i++) {
		const struct page_record *r = &p->item[i];
		if (r->record.tier < p->tier && r->record.flags == found->flags && r->record.key_length == found->key_length &&
		    memcmp(p->bytes + r->at, key, found->key_length) == 0)
			return true;
	}
	return false;
}

static void page_put(struct page *p, const struct found *found, const void *key, const void *value, const struct page_record *like)
{
	struct page_record *r = &p->item[p->count++];
	*r = *like;
	r->at = p->used;
	r->record.key_length = found->key_length;
	r->record.value_length = found->value_length;
	r->record.version = found->version;
	r->record.expiry = found->expiry & FS_ExpiryMask;
	r->record.stale = (uint32_t)(found->expiry >> FS_ExpiryStaleShift);
	r->record.tag = found->tag;
	r->record.flags = found->flags;
	r->record.stamp = recency_stamp(found->recency);
	r->record.count = recency_count(found->recency);
	r->record.small = found->small;
	memcpy(p->bytes + p->used, key, found->key_length);
	p->used += found->key_length;
	memcpy(p->bytes + p->used, value, found->value_length);
	p->used += found->value_length;
}

/* Hands a record of the page to the caller; the expired one of a key that hides those below was needed until here. */
static bool page_visit(struct page *p, size_t i, flagstone_visit visit, void *context)
{
	flagstone_record *r = &p->item[i].record;
	r->key = p->bytes + p->item[i].at;
	r->value = p->bytes + p->item[i].at + r->key_length;
	return visit(context, r);
}

static void page_free(struct page *p)
{
	free(p->item);
	free(p->bytes);
}

static bool page_take(void *context, const struct found *found, uint64_t hash, const void *key, const void *value)
{
	struct page *p = context;
	(void)hash;
	if (page_has(p, found, key)) /* it is on its way down */
		return true;
	if (p->count == p->most) {
		p->endless = true;
		return false;
	}
	if (!page_grow(p, (size_t)found->key_length + found->value_length)) {
		p->no_memory = true;
		return false;
	}
	struct page_record like = {.record = {.tier = p->tier, .shard = p->shard}};
	page_put(p, found, key, value, &like);
	return true;
}

/* Step 2. */
static flagstone_status page_walk(flagstone *h, struct view *view, struct page *p)
{
	p->count = p->used = 0;
	p->endless = false;
	for (p->tier = 0; p->tier < view->tiers; p->tier++) {
		p->most = p->count + view->slab[p->tier]->geometry.cells;
		uint32_t buckets = view->slab[p->tier]->geometry.buckets;
		uint64_t bucket = (uint64_t)p->first * buckets >> 32, end = (uint64_t)p->last * buckets >> 32;
		for (; bucket <= end; bucket++) {
			flagstone_status status =
				lookup_chain(h->stack, view, p->shard, p->tier, (uint32_t)bucket, p->first, p->last, page_take, p);
			if (p->no_memory)
				return fail(FLAGSTONE_NOMEMORY, "no memory for a page of a scan");
			if (p->endless)
				return FLAGSTONE_BUSY;
			if (status != FLAGSTONE_OK)
				return status;
		}
	}
	return FLAGSTONE_OK;
}

/* The page under the lock, when it would not stand still without. */
static flagstone_status page_locked(flagstone *h, struct page *p)
{
	struct column c;
	if (h->domain->read)
		return fail(FLAGSTONE_BUSY, "a page of the scan changed %d times", SCAN_TRIES);
	flagstone_status status = column_enter(&c, h->stack, p->shard, handle_deadline(h));
	if (status != FLAGSTONE_OK)
		return status;
	do {
		status = page_walk(h, c.view, p);
		if (status == FLAGSTONE_BUSY)
			status = fail(FLAGSTONE_CORRUPT, "shard %" PRIu32 ": a chain contradicts itself", p->shard);
	} while (column_again(&c, &status));
	return column_leave(&c, status);
}

static flagstone_status page_read(flagstone *h, struct page *p)
{
	for (int i = 0; i < SCAN_TRIES; i++) {
		struct view *view;
		flagstone_status status = stack_whole(h->stack, &view);
		if (status != FLAGSTONE_OK)
			return status;
		const struct shard *top = &view->slab[0]->shards[p->shard];
		uint64_t epoch = atomic_load(&top->head->Epoch);
		if (epoch & FS_EpochRebuilding) {
			pause_us(50);
			continue;
		}
		status = page_walk(h, view, p);
		if (status != FLAGSTONE_OK && status != FLAGSTONE_BUSY)
			return status;
		if (status == FLAGSTONE_OK && changes(h->domain) == atomic_load(&view->changes) && atomic_load(&top->head->Epoch) == epoch)
			return handle_leave(h, FLAGSTONE_OK);
	}
	return handle_leave(h, page_locked(h, p));
}

flagstone_status flagstone_scan(flagstone *handle, flagstone_visit visit, void *context)
{
	struct page page = {0};
	struct view *view;
	flagstone_status status = handle_enter(handle);
	if (status == FLAGSTONE_OK)
		status = stack_whole(handle->stack, &view);
	if (status != FLAGSTONE_OK)
		return status;
	uint64_t buckets = view->slab[0]->geometry.buckets;
	bool more = true;
	for (page.shard = 0; more && status == FLAGSTONE_OK && page.shard < handle->stack->shards; page.shard++)
		for (uint64_t b = 0; more && status == FLAGSTONE_OK && b < buckets; b++) {
			page.first = (uint32_t)(((b << 32) + buckets - 1) / buckets);
			page.last = (uint32_t)((((b + 1) << 32) + buckets - 1) / buckets - 1);
			busy(handle->domain);
			status = page_read(handle, &page);
			uint64_t wall = clock_wall(handle->domain);
			for (size_t i = 0; more && status == FLAGSTONE_OK && i < page.count; i++) {
				const flagstone_record *r = &page.item[i].record;
				if (!record_internal(r->flags) && !(r->expiry && wall >= r->expiry))
					more = page_visit(&page, i, visit, context);
			}
		}
	page_free(&page);
	return status;
}
