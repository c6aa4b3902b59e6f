/* What moves many records, and what changes the stack (PROTOCOL.md, 20). */

enum { MOVE_BATCH = 64, PASS_TRIES = 64 };

static flagstone_status tiers_rebuild(struct stack *stack, uint64_t deadline)
{
	flagstone_status status = FLAGSTONE_OK;
	for (uint32_t number = 0; number < stack->shards && status == FLAGSTONE_OK; number++) {
		struct column c;
		status = column_enter(&c, stack, number, deadline);
		if (status == FLAGSTONE_OK)
			status = column_leave(&c, column_rebuild(&c));
	}
	return status;
}

/* --- Aged records, in batches (16 with a move in place of the removal) --- */

struct aged {
	uint64_t age, version;
	uint32_t shard, cell;
	bool counts; /* ids and claims do not */
};

struct aged_list {
	struct aged *list;
	size_t count, capacity;
};

static int aged_by_age(const void *left, const void *right)
{
	const struct aged *a = left, *b = right;
	if (a->age != b->age)
		return a->age < b->age ? -1 : 1;
	return a->version < b->version ? -1 : a->version > b->version;
}

static int aged_by_shard(const void *left, const void *right)
{
	const struct aged *a = left, *b = right;
	return a->shard != b->shard ? (a->shard < b->shard ? -1 : 1) : aged_by_age(left, right);
}

static bool record_is_id(uint32_t flags) { return (flags & (FS_FlagNamespace | FS_FlagClaim)) == FS_FlagNamespace; }
static bool record_is_own(uint32_t flags) { return (flags & (FS_FlagNamespace | FS_FlagClaim)) != 0; }

/* What the order by age goes by: ids are younger than their stamps, as those of their records may lie so far ahead. */
static uint64_t record_age(const struct stack *stack, const struct found *found)
{
	return recency_stamp(found->recency) + (record_is_id(found->flags) ? FS_ClockSlackMillis + stack->stamp_millis : 0);
}

static flagstone_status aged_collect(struct stack *stack, const struct slab *slab, uint64_t cutoff, struct aged_list *all)
{
	all->count = 0;
	for (uint32_t number = 0; number < stack->shards; number++) {
		const struct shard *s = &slab->shards[number];
		for (uint32_t cell = 1; cell <= shard_cells(s); cell++) {
			struct found found;
			if (!cell_live(s, 0, cell, &found) || record_age(stack, &found) >= cutoff)
				continue;
			if (all->count == all->capacity) {
				size_t capacity = all->capacity ? 2 * all->capacity : 256;
				struct aged *more = realloc(all->list, capacity * sizeof *more);
				if (!more)
					return fail(FLAGSTONE_NOMEMORY, "no memory to list %zu records", all->count);
				all->list = more;
				all->capacity = capacity;
			}
			all->list[all->count++] = (struct aged){record_age(stack, &found), found.version, number, cell, !record_is_own(found.flags)};
		}
	}
	return FLAGSTONE_OK;
}

/* The oldest, as many as the limit, in the order of their columns. */
static void aged_choose(struct aged_list *all, uint64_t limit)
{
	size_t chosen = 0;
	if (all->count == 0)
		return;
	qsort(all->list, all->count, sizeof *all->list, aged_by_age);
	for (uint64_t counted = 0; chosen < all->count && counted < limit; chosen++)
		counted += all->list[chosen].counts;
	all->count = chosen;
	qsort(all->list, all->count, sizeof *all->list, aged_by_shard);
}

/* One record to a tier that is to have room for it already. FLAGSTONE_NO: it has changed; FLAGSTONE_FULL, FLAGSTONE_TOOLARGE: it stays. */
static flagstone_status tiers_move_one(struct column *c, struct found *found, uint32_t to)
{
	flagstone_status status = record_locate(c, found);
	if (status != FLAGSTONE_OK)
		return status;
	const struct shard *t = column_shard(c, to);
	if (!tier_allows(c, to, found->key_length, found->value_length))
		return FLAGSTONE_TOOLARGE;
	if (!tier_takes(c, to) || !record_fits(t, geometry_cells(t->geometry, found_bytes(found)), 0))
		return FLAGSTONE_FULL;
	return record_move(c, found, to, NULL);
}

/* Up to a batch of one column's, from list[*next] on. */
static flagstone_status aged_move(struct column *c, const struct slab *slab, uint32_t from, uint32_t to, uint64_t cutoff, const struct aged_list *all,
                                  size_t *next, uint64_t *moved, bool *changed)
{
	flagstone_status status = FLAGSTONE_OK;
	if (from >= c->tiers || to >= c->tiers || c->view->slab[from] != slab)
		return fail(FLAGSTONE_STATE, "the tiers have changed");
	for (int i = 0; i < MOVE_BATCH && *next < all->count && all->list[*next].shard == c->number; i++, ++*next) {
		const struct aged *aged = &all->list[*next];
		c->mended = false;
		do {
			struct found found = {.tier = from, .cell = aged->cell, .version = aged->version};
			struct found now;
			status = FLAGSTONE_NO;
			if (cell_live(column_shard(c, from), from, aged->cell, &now) && now.version == aged->version && record_age(c->stack, &now) < cutoff)
				status = tiers_move_one(c, &found, to);
		} while (column_again(c, &status));
		*changed = *changed || status == FLAGSTONE_NO;
		if (status == FLAGSTONE_OK)
			*moved += aged->counts;
		else if (status != FLAGSTONE_NO && status != FLAGSTONE_FULL && status != FLAGSTONE_TOOLARGE)
			return status;
	}
	return FLAGSTONE_OK;
}

static flagstone_status aged_round(struct stack *stack, uint32_t from, uint32_t to, uint64_t cutoff, uint64_t limit, uint64_t deadline,
                                   struct aged_list *all, uint64_t *moved, bool *changed)
{
	struct view *view;
	flagstone_status status = view_whole(stack, &view);
	*changed = false;
	if (status != FLAGSTONE_OK)
		return status;
	if (from >= view->tiers || to >= view->tiers || from == to)
		return fail(FLAGSTONE_NOSLAB, "no move from tier %" PRIu32 " to %" PRIu32 " of %" PRIu32, from, to, view->tiers);
	status = aged_collect(stack, view->slab[from], cutoff, all);
	aged_choose(all, limit - *moved);
	for (size_t next = 0; next < all->count && status == FLAGSTONE_OK;) {
		struct column c;
		status = column_enter(&c, stack, all->list[next].shard, deadline);
		if (status == FLAGSTONE_OK)
			status = column_leave(&c, aged_move(&c, view->slab[from], from, to, cutoff, all, &next, moved, changed));
	}
	if (status == FLAGSTONE_STATE) {
		*changed = true;
		status = FLAGSTONE_OK;
	}
	return status;
}

static flagstone_status tiers_age(struct stack *stack, uint32_t from, uint32_t to, uint64_t cutoff, uint64_t limit, uint64_t deadline, uint64_t *moved)
{
	struct aged_list all = {NULL, 0, 0};
	uint64_t grain = FS_ClockSlackMillis + stack->stamp_millis, low = cutoff > grain ? cutoff - grain : 0;
	flagstone_status status = FLAGSTONE_OK;
	bool changed = true;
	*moved = 0;
	for (int tries = 0; tries < 4 && changed && *moved < limit && status == FLAGSTONE_OK; tries++)
		status = aged_round(stack, from, to, low, limit, deadline, &all, moved, &changed);
	free(all.list);
	return status;
}

/* --- Growing --- */

static void tiers_shape(const struct slab *slab, struct shape *shape)
{
	const struct geometry *g = &slab->geometry;
	*shape = (struct shape){.entries = g->capacity, .cell_size = g->cell_size, .max_key = g->max_key, .max_value = g->max_value, .shards = g->shards,
	                        .order = g->order, .full = g->full, .stamp_millis = g->stamp_millis};
}

/* Inside Exclusive: the next number, from the directory itself, as a grower that died may not have told (steward.pml BREAK_LOOK). */
static flagstone_status grow_next(struct stack *stack, uint32_t *tier)
{
	struct entry entries[FS_MaxTiers];
	uint32_t count;
	view_entries(stack->domain, stack->id, entries, FS_MaxTiers, &count);
	if (count == 0 || entries[0].tier != 0 || entries[0].state == FS_EntryDraining)
		return fail(FLAGSTONE_RETIRED, "stack %016" PRIx64 " is being retired", stack->id);
	if (count >= FS_MaxTiers || entries[count - 1].tier == UINT32_MAX)
		return fail(FLAGSTONE_UNATTACHED, "stack %016" PRIx64 " has %" PRIu32 " slabs", stack->id, count);
	*tier = entries[count - 1].tier + 1;
	return FLAGSTONE_OK;
}

static flagstone_status tiers_grow(struct stack *stack, const char *name, const struct shape *shape, uint64_t deadline, uint64_t *segment)
{
	struct domain *d = stack->domain;
	struct shape shaped = *shape;
	struct geometry g;
	struct entry entry = {0};
	struct view *view;
	uint32_t tier;
	shaped.shards = stack->shards;
	flagstone_status status = domain_writable(d);
	if (status == FLAGSTONE_OK)
		status = geometry_plan(&shaped, &g);
	if (status == FLAGSTONE_OK)
		status = exclusive_begin(d, deadline);
	if (status != FLAGSTONE_OK)
		return status;
	status = view_whole(stack, &view);
	if (status == FLAGSTONE_OK)
		status = grow_next(stack, &tier);
	if (status == FLAGSTONE_OK)
		status = slab_publish(d, name, stack->id, tier, &g, &entry);
	exclusive_end(d);
	if (status == FLAGSTONE_OK && segment)
		*segment = entry.id;
	return status == FLAGSTONE_OK ? view_whole(stack, &view) : status;
}

/* --- Draining --- */

struct drain {
	struct stack *stack;
	struct view *view;   /* of this pass */
	uint32_t tier;
	uint64_t moved, stayed;
	bool filled;         /* a shard was not empty at its end */
};

/* The first other tier that takes the record; or it has gone for good. */
static flagstone_status drain_one(struct drain *drain, struct column *c, uint32_t cell)
{
	struct found found;
	if (!cell_live(column_shard(c, drain->tier), drain->tier, cell, &found))
		return FLAGSTONE_OK;
	flagstone_status status = record_locate(c, &found);
	if (status != FLAGSTONE_OK)
		return status;
	if (expiry_over(found.expiry, c->wall) && expiry_gone(found.expiry, c->wall)) {
		shard_count(&column_shard(c, drain->tier)->head->Expired, 1);
		return record_remove(c, &found);
	}
	for (uint32_t to = 0; to < c->tiers; to++) {
		if (to == drain->tier)
			continue;
		status = tiers_move_one(c, &found, to);
		if (status == FLAGSTONE_OK)
			drain->moved++;
		if (status != FLAGSTONE_FULL && status != FLAGSTONE_TOOLARGE)
			return status;
	}
	drain->stayed++;
	return FLAGSTONE_OK;
}

/* Some cells of one column, from *cell on; it ends at 0. */
enum { CELLS_A_TURN = 1024 };

static flagstone_status drain_some(struct drain *drain, struct column *c, uint32_t *cell)
{
	const struct shard *s = column_shard(c, drain->tier);
	flagstone_status status;
	if (c->view != drain->view)
		return FLAGSTONE_STATE;
	uint32_t looked = 0;
	for (uint64_t begin = drain->moved; drain->moved - begin < MOVE_BATCH && looked < CELLS_A_TURN && *cell <= shard_cells(s); ++*cell, looked++) {
		c->mended = false;
		do
			status = drain_one(drain, c, *cell);
		while (column_again(c, &status));
		if (status != FLAGSTONE_OK)
			return status;
	}
	if (*cell <= shard_cells(s))
		return FLAGSTONE_OK;
	drain->filled = drain->filled || word_get(&s->head->Live) != 0;
	*cell = 0;
	return FLAGSTONE_OK;
}

/* 2, a pass: FLAGSTONE_STATE if the view has changed on the way. */
static flagstone_status drain_pass(struct drain *drain, uint64_t deadline)
{
	drain->stayed = 0;
	drain->filled = false;
	for (uint32_t number = 0; number < drain->stack->shards; number++)
		for (uint32_t cell = 1; cell != 0;) {
			struct column c;
			flagstone_status status = column_enter(&c, drain->stack, number, deadline);
			if (status == FLAGSTONE_OK)
				status = column_leave(&c, drain_some(drain, &c, &cell));
			if (status != FLAGSTONE_OK)
				return status;
		}
	return FLAGSTONE_OK;
}

/* The tier of a segment in a view that is whole; FLAGSTONE_NOSLAB. */
static flagstone_status drain_find(struct drain *drain, uint64_t segment)
{
	flagstone_status status = view_whole(drain->stack, &drain->view);
	for (drain->tier = 0; status == FLAGSTONE_OK && drain->tier < drain->view->tiers; drain->tier++)
		if (drain->view->slab[drain->tier]->segment == segment)
			return drain->tier > 0 ? FLAGSTONE_OK : fail(FLAGSTONE_OPTIONS, "tier 0 stays");
	return status == FLAGSTONE_OK ? fail(FLAGSTONE_NOSLAB, "there is no slab %016" PRIx64 " in the stack", segment) : status;
}

/* 4 to 6. */
static flagstone_status drain_end(struct drain *drain, uint32_t entry, uint64_t word)
{
	struct domain *d = drain->stack->domain;
	struct view *view;
	if (drain->stayed > 0) {
		flagstone_status status = entry_reopen(d, entry, word);
		return status == FLAGSTONE_OK || status == FLAGSTONE_STATE
		           ? fail(FLAGSTONE_FULL, "%" PRIu64 " records have no room elsewhere", drain->stayed)
		           : status;
	}
	if (drain->filled)
		return fail(FLAGSTONE_STATE, "the slab was opened again");
	flagstone_status status = entry_retire(d, entry, word);
	return status == FLAGSTONE_OK ? view_whole(drain->stack, &view) : status;
}

static flagstone_status tiers_drain(struct stack *stack, uint64_t segment, uint64_t deadline, uint64_t *moved)
{
	struct drain drain = {.stack = stack};
	uint64_t word;
	flagstone_status status = drain_find(&drain, segment);
	if (status == FLAGSTONE_OK)
		status = domain_writable(stack->domain);
	if (status != FLAGSTONE_OK)
		return status;
	uint32_t entry = drain.view->slab[drain.tier]->entry, generation = drain.view->slab[drain.tier]->generation;
	status = entry_drain(stack->domain, entry, generation, &word);
	for (int tries = 0; tries < PASS_TRIES && status == FLAGSTONE_OK; tries++) {
		status = drain_find(&drain, segment);
		if (status == FLAGSTONE_OK)
			status = drain_pass(&drain, deadline);
		if (status == FLAGSTONE_OK) {
			status = drain_end(&drain, entry, word);
			break;
		}
		if (status == FLAGSTONE_STATE)
			status = tries + 1 < PASS_TRIES ? FLAGSTONE_OK : fail(FLAGSTONE_BUSY, "the directory does not stand still");
	}
	if (moved)
		*moved = drain.moved;
	return status;
}

/* --- Retiring a stack --- */

/* 2, of one column: some cells of all tiers at a time. */
static flagstone_status retire_some(struct column *c, uint32_t *tier, uint32_t *cell)
{
	for (int i = 0; i < 1024; i++, ++*cell) {
		const struct shard *s = column_shard(c, *tier);
		if (*cell > shard_cells(s)) {
			*cell = 0;
			if (++*tier == c->tiers)
				return FLAGSTONE_OK;
			continue;
		}
		flagstone_status status;
		c->mended = false;
		do {
			struct found found;
			status = FLAGSTONE_OK;
			if (!cell_live(s, *tier, *cell, &found))
				break;
			status = record_locate(c, &found);
			if (status == FLAGSTONE_OK)
				status = record_remove(c, &found);
			if (status == FLAGSTONE_OK)
				shard_count(&s->head->Cleared, 1);
		} while (column_again(c, &status));
		if (status != FLAGSTONE_OK)
			return status;
	}
	return FLAGSTONE_OK;
}

static flagstone_status retire_clear(struct stack *stack, uint64_t deadline)
{
	for (uint32_t number = 0; number < stack->shards; number++)
		for (uint32_t tier = 0, cell = 1, tiers = 1; tier < tiers;) {
			struct column c;
			flagstone_status status = column_enter(&c, stack, number, deadline);
			if (status != FLAGSTONE_OK)
				return status;
			tiers = c.tiers;
			status = column_leave(&c, tier < tiers ? retire_some(&c, &tier, &cell) : FLAGSTONE_OK);
			if (status != FLAGSTONE_OK)
				return status;
		}
	return FLAGSTONE_OK;
}

/* 2 and 3, from a tier 0 that is DRAINING. */
static flagstone_status retire_rest(struct domain *d, const struct entry *top, uint64_t deadline)
{
	struct entry entries[FS_MaxTiers];
	struct stack *stack;
	uint32_t count;
	flagstone_status status = stack_make(d, top, true, &stack);
	if (status != FLAGSTONE_OK)
		return status == FLAGSTONE_RETIRED ? FLAGSTONE_OK : status; /* another was quicker */
	stack->retiring = true;
	status = retire_clear(stack, deadline);
	view_entries(d, top->id, entries, FS_MaxTiers, &count);
	stack_close(stack);
	if (count > FS_MaxTiers)
		count = FS_MaxTiers;
	while (count-- > 0 && status == FLAGSTONE_OK) {
		uint64_t word;
		status = entry_drain(d, entries[count].number, entries[count].generation, &word);
		if (status == FLAGSTONE_OK)
			status = entry_retire(d, entries[count].number, word);
		if (status == FLAGSTONE_STATE || status == FLAGSTONE_RETIRED)
			status = FLAGSTONE_OK;
	}
	return status == FLAGSTONE_RETIRED ? FLAGSTONE_OK : status;
}

static flagstone_status tiers_retire(struct domain *d, const char *name, uint64_t deadline)
{
	struct entry entry;
	uint64_t word;
	if (stack_primary(name))
		return fail(FLAGSTONE_OPTIONS, "the primary slab goes with the domain only");
	flagstone_status status = domain_writable(d);
	if (status == FLAGSTONE_OK)
		status = exclusive_begin(d, deadline);
	if (status != FLAGSTONE_OK)
		return status;
	status = stack_find(d, name, &entry) ? entry_drain(d, entry.number, entry.generation, &word) : fail(FLAGSTONE_NOSLAB, "there is no slab %s", name);
	exclusive_end(d);
	return status == FLAGSTONE_OK ? retire_rest(d, &entry, deadline) : status;
}

static flagstone_status tiers_finish(struct domain *d, uint64_t deadline)
{
	flagstone_status status = FLAGSTONE_OK;
	for (uint32_t number = 0; number < d->shape.entries && status == FLAGSTONE_OK; number++) {
		struct entry entry;
		if (entry_read(d, number, &entry) && entry.state == FS_EntryDraining && entry.kind == FS_KindSlab && entry.tier == 0 &&
		    entry.stack == entry.id && !(entry.name_length == 7 && memcmp(entry.name, "primary", 7) == 0))
			status = retire_rest(d, &entry, deadline);
	}
	return status;
}
