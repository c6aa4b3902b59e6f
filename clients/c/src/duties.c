/* What the steward does for all (section 20, Steward), a little at a time. Each step is one that any handle might take. */
#include "handle.h"

enum { DUTIES_CELLS = 4096, DUTIES_PATIENCE = 20, DUTIES_IDLE_DRAIN_MILLIS = 1000 };

/* Removes one record if it has expired and may not be served as stale any more. */
static flagstone_status duties_expire_one(struct column *c, uint32_t tier, uint32_t cell)
{
	struct found found;
	const struct shard *s = column_shard(c, tier);
	if (!cell_live(s, tier, cell, &found) || !expiry_gone(found.expiry, c->wall))
		return FLAGSTONE_OK;
	flagstone_status status = record_locate(c, &found);
	if (status == FLAGSTONE_OK)
		status = record_remove(c, &found);
	if (status == FLAGSTONE_OK)
		shard_count(&s->head->Expired, 1);
	return status == FLAGSTONE_NO ? FLAGSTONE_OK : status;
}

/* Looks at the cells from `first` of a shard without a lock, and takes it for those that seem to have gone. */
static void duties_expire_some(struct flagstone *h, struct view *view, uint32_t tier, uint32_t shard, uint32_t first, uint32_t last)
{
	const struct shard *s = &view->slab[tier]->shards[shard];
	uint64_t wall = clock_wall(h->domain);
	for (uint32_t cell = first; cell <= last; cell++) {
		struct found found;
		struct column c;
		if (!cell_live(s, tier, cell, &found) || !expiry_gone(found.expiry, wall))
			continue;
		if (column_enter(&c, h->stack, shard, deadline_in(DUTIES_PATIENCE)) != FLAGSTONE_OK)
			return;
		flagstone_status status = FLAGSTONE_OK;
		if (c.view == view)
			do
				status = duties_expire_one(&c, tier, cell);
			while (column_again(&c, &status));
		if (column_leave(&c, status) != FLAGSTONE_OK)
			return;
	}
}

/* Goes on from where it was, through all cells of all tiers. */
static void duties_expire(struct flagstone *h, struct view *view)
{
	uint64_t total = 0, at = h->duties.cell;
	for (uint32_t tier = 0; tier < view->tiers; tier++) {
		const struct geometry *g = &view->slab[tier]->geometry;
		uint64_t cells = (uint64_t)g->shards * g->cells;
		if (at < total + cells) {
			uint32_t shard = (uint32_t)((at - total) / g->cells), first = (uint32_t)((at - total) % g->cells) + 1;
			uint32_t used = shard_cells(&view->slab[tier]->shards[shard]);
			uint32_t last = first + DUTIES_CELLS - 1 < g->cells ? first + DUTIES_CELLS - 1 : g->cells;
			duties_expire_some(h, view, tier, shard, first, last < used ? last : used);
			/* What was never used in a shard holds nothing. */
			h->duties.cell = last < used ? at + (last - first + 1) : total + (uint64_t)(shard + 1) * g->cells;
			return;
		}
		total += cells;
	}
	h->duties.cell = 0;
}

/* Goes on with a drain whose slab has lost no record for a while: its drainer is taken for dead. */
static void duties_drain(struct flagstone *h, struct view *view)
{
	for (uint32_t tier = 1; tier < view->tiers; tier++) {
		const struct slab *slab = view->slab[tier];
		uint64_t live = 0, word = atomic_load(slab->state), now = clock_domain(h->domain);
		if ((word & FS_EntryStateMask) != FS_EntryDraining || word >> FS_StateGenerationShift != slab->generation)
			continue;
		for (uint32_t i = 0; i < slab->geometry.shards; i++)
			live += atomic_load(&slab->shards[i].head->Live);
		if (h->duties.drain != slab->segment || h->duties.live != live) {
			h->duties.drain = slab->segment;
			h->duties.live = live;
			h->duties.since = now;
		} else if (now - h->duties.since >= DUTIES_IDLE_DRAIN_MILLIS) {
			uint64_t moved;
			h->duties.drain = 0;
			tiers_drain(h->stack, slab->segment, deadline_in(DUTIES_PATIENCE), &moved);
		}
		return;
	}
}

static void duties_round(struct domain *d)
{
	/* A handle that is being opened or closed waits for a round at most; in a forked child nobody gets here. */
	if (pthread_mutex_trylock(&handles_lock) != 0)
		return;
	entries_finish(d);
	tiers_finish(d, deadline_in(DUTIES_PATIENCE));
	for (struct flagstone *h = handles; h; h = h->next) {
		struct view *view;
		if (h->domain != d || h->life != d->life || stack_whole(h->stack, &view) != FLAGSTONE_OK)
			continue;
		duties_expire(h, view);
		duties_drain(h, view);
	}
	pthread_mutex_unlock(&handles_lock);
}
