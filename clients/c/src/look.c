/* Looking at a stack: figures, dump, check, and putting right. */
#include "handle.h"

#include <string.h>

static void stat_add(flagstone_stat *sum, const struct FS_Shard *s)
{
	sum->records += atomic_load(&s->Live);
	sum->cells += atomic_load(&s->Used);
	sum->bytes += atomic_load(&s->Bytes);
	sum->sets += atomic_load(&s->Sets);
	sum->deletes += atomic_load(&s->Deletes);
	sum->evicted_full += atomic_load(&s->EvictedFull);
	sum->evicted_cutoff += atomic_load(&s->EvictedCutoff);
	sum->evicted_tag += atomic_load(&s->EvictedTag);
	sum->cleared += atomic_load(&s->Cleared);
	sum->expired += atomic_load(&s->Expired);
	sum->moved_in += atomic_load(&s->MovedIn);
	sum->moved_out += atomic_load(&s->MovedOut);
	sum->rebuilds += atomic_load(&s->Rebuilds);
	sum->steals += atomic_load(&s->Steals);
	sum->dropped += atomic_load(&s->Dropped);
}

flagstone_status flagstone_stats(flagstone *handle, bool (*each)(void *context, const flagstone_stat *stat), void *context)
{
	struct view *view;
	flagstone_status status = handle_enter(handle);
	if (status == FLAGSTONE_OK)
		status = stack_whole(handle->stack, &view);
	if (status != FLAGSTONE_OK)
		return status;
	bool more = true;
	for (uint32_t tier = 0; more && tier < view->tiers; tier++) {
		const struct slab *slab = view->slab[tier];
		flagstone_stat sum = {.tier = slab->number, .segment = slab->segment, .capacity = slab->geometry.capacity, .file_size = slab->geometry.file_size};
		for (uint32_t i = 0; i < slab->geometry.shards; i++)
			stat_add(&sum, slab->shards[i].head);
		if ((status = handle_leave(handle, FLAGSTONE_OK)) != FLAGSTONE_OK)
			return status;
		more = each(context, &sum);
	}
	return FLAGSTONE_OK;
}

flagstone_status flagstone_counters(flagstone *handle, uint64_t *counters, size_t n)
{
	uint64_t all[32];
	flagstone_status status = handle_enter(handle);
	if (status != FLAGSTONE_OK)
		return status;
	counters_total(handle->domain, all);
	memcpy(counters, all, (n < 32 ? n : 32) * sizeof *counters);
	return handle_leave(handle, FLAGSTONE_OK);
}

/* --- Dump --- */

static bool dump_take(void *context, const struct dumped *d)
{
	struct page *p = context;
	if (!page_grow(p, (size_t)d->found.key_length + d->found.value_length)) {
		p->no_memory = true;
		return false;
	}
	struct page_record like = {.record = {.tier = d->found.tier, .shard = d->shard}};
	page_put(p, &d->found, d->key, d->value, &like);
	return true;
}

/* A shard of a tier under its column's lock. FLAGSTONE_NO: the view is another by now. */
static flagstone_status dump_shard(flagstone *h, const struct slab *slab, uint32_t number, flagstone_shard *shard, struct page *page)
{
	struct column c;
	flagstone_status status = column_enter(&c, h->stack, number, handle_deadline(h));
	if (status != FLAGSTONE_OK)
		return status;
	uint32_t tier = 0;
	while (tier < c.tiers && c.view->slab[tier] != slab)
		tier++;
	if (tier == c.tiers)
		return column_leave(&c, FLAGSTONE_NO);
	do {
		page->count = page->used = 0;
		status = slab_dump(&c, tier, dump_take, page);
	} while (column_again(&c, &status));
	const struct FS_Shard *s = column_shard(&c, tier)->head;
	*shard = (flagstone_shard){
		.tier = slab->number,
		.shard = number,
		.live = atomic_load(&s->Live),
		.used = atomic_load(&s->Used),
		.small = atomic_load(&s->SmallCount),
		.sequence = atomic_load(&s->Sequence),
		.turn = atomic_load(&s->Turn),
	};
	status = column_leave(&c, status);
	return page->no_memory ? fail(FLAGSTONE_NOMEMORY, "no memory for a shard's records") : handle_leave(h, status);
}

flagstone_status flagstone_dump(flagstone *handle, bool (*shard)(void *context, const flagstone_shard *shard), flagstone_visit record,
                                void *context)
{
	struct view *view;
	struct page page = {0};
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = stack_whole(handle->stack, &view);
	if (status != FLAGSTONE_OK)
		return status;
	bool more = true;
	for (uint32_t tier = 0; more && tier < view->tiers; tier++)
		for (uint32_t i = 0; more && i < view->slab[tier]->geometry.shards; i++) {
			flagstone_shard about;
			status = dump_shard(handle, view->slab[tier], i, &about, &page);
			if (status == FLAGSTONE_NO) { /* retired meanwhile */
				status = FLAGSTONE_OK;
				break;
			}
			if (status != FLAGSTONE_OK) {
				page_free(&page);
				return status;
			}
			more = shard(context, &about);
			for (size_t r = 0; more && r < page.count; r++)
				more = page_visit(&page, r, record, context);
		}
	page_free(&page);
	return status;
}

/* --- Check, Rebuild, Repair --- */

flagstone_status flagstone_check(flagstone *handle, bool (*each)(void *context, const char *text), void *context)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	control_check(handle->domain, each, context);
	return handle_leave(handle, slab_check(handle->stack, handle_deadline(handle), each, context));
}

flagstone_status flagstone_rebuild(flagstone *handle)
{
	flagstone_status status = handle_enter_writer(handle);
	return status != FLAGSTONE_OK ? status : handle_leave(handle, tiers_rebuild(handle->stack, handle_deadline(handle)));
}

flagstone_status flagstone_repair(flagstone *handle, uint64_t *mended)
{
	uint64_t n = 0;
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = control_repair(handle->domain, &n);
	if (status == FLAGSTONE_OK)
		status = tiers_rebuild(handle->stack, handle_deadline(handle));
	if (mended)
		*mended = n;
	return status == FLAGSTONE_OK ? handle_leave(handle, FLAGSTONE_OK) : status;
}
