/* The slabs of a stack, as this process has them mapped (PROTOCOL.md, 20, View and Closing a slab). */

static struct turn stacks_lock;    /* guards the list of this process's stacks */
static struct stack *stacks_first;

static void stacks_forked(void)
{
	atomic_store(&stacks_lock.word, 0);
	for (struct stack *stack = stacks_first; stack; stack = stack->next)
		atomic_store(&stack->making.word, 0);
}

static flagstone_status slab_locks(const struct segment *segment, const struct entry *entry, uint32_t *shards, uint64_t *offset, uint64_t *stride)
{
	struct FS_SlabHeader *h = segment->base;
	struct geometry g;
	struct owner owner = {.segment = entry->id, .uuid = {word_get(&h->DomainUUID[0]), word_get(&h->DomainUUID[1])}, .seed = word_get(&h->HashSeed)};
	flagstone_status status = geometry_check(segment->base, segment->size, &owner, &g);
	if (status != FLAGSTONE_OK)
		return status;
	*shards = g.shards;
	*offset = FS_PageSize;
	*stride = g.shard_stride;
	return FLAGSTONE_OK;
}

static flagstone_status slab_attach(struct stack *stack, const struct entry *entry, struct slab **attached)
{
	struct domain *d = stack->domain;
	struct owner owner = {.segment = entry->id, .uuid = {d->uuid[0], d->uuid[1]}, .seed = d->hash_seed, .reads = d->read};
	struct slab *slab = calloc(1, sizeof *slab);
	if (!slab)
		return fail(FLAGSTONE_NOMEMORY, "no memory for slab %016" PRIx64, entry->id);
	flagstone_status status = segment_attach(d, entry, &slab->segment_held);
	if (status != FLAGSTONE_OK) {
		free(slab);
		return status;
	}
	status = geometry_check(slab->segment_held->base, slab->segment_held->size, &owner, &slab->geometry);
	if (status == FLAGSTONE_OK && stack->shards != 0 && slab->geometry.shards != stack->shards)
		status = fail(FLAGSTONE_GEOMETRY, "slab %016" PRIx64 " has %" PRIu32 " shards, tier 0 %" PRIu32, entry->id, slab->geometry.shards,
		              stack->shards);
	if (status != FLAGSTONE_OK) {
		segment_detach(d, slab->segment_held);
		free(slab);
		return status;
	}
	slab->base = slab->segment_held->base;
	slab->segment = entry->id;
	slab->stack = entry->stack;
	slab->number = entry->tier;
	slab->entry = entry->number;
	slab->generation = entry->generation;
	slab->state = entry_state(d, entry->number);
	slab_lay_out(slab);
	slab->next = stack->slabs;
	stack->slabs = slab;
	*attached = slab;
	return FLAGSTONE_OK;
}

/* The stack's mapping of an entry, attached if it is not yet. */
static flagstone_status slab_get(struct stack *stack, const struct entry *entry, struct slab **slab)
{
	for (struct slab *s = stack->slabs; s; s = s->next)
		if (s->segment == entry->id && s->entry == entry->number && s->generation == entry->generation && s->segment_held) {
			*slab = s;
			return FLAGSTONE_OK;
		}
	return slab_attach(stack, entry, slab);
}

/* --- Reading the directory --- */

static int view_order(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;
	if (a->tier != b->tier)
		return a->tier < b->tier ? -1 : 1;
	if (a->id != b->id)
		return a->id < b->id ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

/* The published slabs of a stack, in the order of the search; `room` of them at most, *count may be more. */
static void view_entries(struct domain *d, uint64_t stack, struct entry *entries, uint32_t room, uint32_t *count)
{
	*count = 0;
	for (uint32_t number = 0; number < d->shape.entries; number++) {
		struct entry entry;
		bool known = false;
		if (!entry_read(d, number, &entry) || !entry_published(&entry) || entry.kind != FS_KindSlab || entry.stack != stack ||
		    (entry.tier == 0 && entry.id != stack))
			continue;
		for (uint32_t i = 0; i < *count && i < room; i++)
			known = known || entries[i].id == entry.id;
		if (known)
			continue;
		if (*count < room)
			entries[*count] = entry;
		++*count;
	}
	qsort(entries, *count < room ? *count : room, sizeof *entries, view_order);
}

/* Steps 2 and 3. */
static void view_fill(struct stack *stack, struct view *view)
{
	struct entry entries[FS_MaxTiers];
	uint32_t count;
	view_entries(stack->domain, stack->id, entries, FS_MaxTiers, &count);
	if (count > FS_MaxTiers) {
		view->lacking = FLAGSTONE_UNATTACHED;
		count = FS_MaxTiers;
	}
	if (count == 0 || entries[0].id != stack->id || entries[0].tier != 0 || entries[0].state == FS_EntryDraining)
		view->lacking = FLAGSTONE_RETIRED;
	for (uint32_t i = 0; i < count && view->lacking != FLAGSTONE_UNATTACHED; i++) {
		flagstone_status status = slab_get(stack, &entries[i], &view->slab[view->tiers]);
		if (status == FLAGSTONE_OK) {
			view->tiers++;
		} else if (status != FLAGSTONE_RETIRED) { /* one that was retired meanwhile was empty */
			view->lacking = FLAGSTONE_UNATTACHED;
			view->cause = status;
			break;
		}
	}
}

static bool view_same(const struct view *a, const struct view *b)
{
	return a->tiers == b->tiers && a->lacking == b->lacking && memcmp(a->slab, b->slab, a->tiers * sizeof a->slab[0]) == 0;
}

/* --- Closing --- */

static bool view_has(const struct view *view, const struct slab *slab)
{
	for (uint32_t i = 0; i < view->tiers; i++)
		if (view->slab[i] == slab)
			return true;
	return false;
}

/* Passes the turn of each column that is free now; true when all have been. It goes on where it was. */
static bool slab_pass(struct stack *stack, struct slab *slab)
{
	for (; slab->passed < slab->geometry.shards; slab->passed++) {
		struct turn *turn = &stack->turns->turn[slab->passed];
		if (!turn_take(turn, 0))
			return false;
		turn_give(turn);
	}
	return true;
}

/* Closes what the view leaves out, beside everything else: what cannot be yet is next time. */
static void stack_tidy(struct stack *stack, const struct view *view)
{
	for (struct slab *slab = stack->slabs; slab; slab = slab->next)
		if (slab->segment_held && view_has(view, slab)) {
			slab->passed = 0; /* should it be left out later, who has come since is to be waited for */
		} else if (slab->segment_held && slab_pass(stack, slab)) {
			segment_blank(stack->domain, slab->segment_held);
			slab->segment_held = NULL;
		}
}

/* --- Views --- */

static flagstone_status view_make(struct stack *stack, struct view **made)
{
	struct domain *d = stack->domain;
	struct view *old = stack_view(stack), *view;
	uint64_t seen = changes(d); /* before the directory is read (publish.pml BREAK_VIEW) */
	*made = old;
	if (old && old->lacking == FLAGSTONE_OK && atomic_load(&old->changes) == seen)
		return FLAGSTONE_OK;
	view = calloc(1, sizeof *view);
	if (!view)
		return fail(FLAGSTONE_NOMEMORY, "no memory for a view");
	view_fill(stack, view);
	if (view->lacking != FLAGSTONE_OK && view->tiers == 0 && old) { /* without tier 0 there is no column: the old one's, for hits */
		view->tiers = 1;
		view->slab[0] = old->slab[0];
	}
	if (view->tiers == 0 || view->slab[0]->segment != stack->id) {
		flagstone_status status = view->lacking;
		free(view);
		return fail(status == FLAGSTONE_OK ? FLAGSTONE_RETIRED : status, "stack %016" PRIx64 " cannot be attached", stack->id);
	}
	if (old && view_same(old, view)) {
		free(view);
		atomic_store(&old->changes, seen);
		view = old;
	} else {
		atomic_init(&view->changes, seen);
		view->older = old;
		atomic_store(&stack->view, view); /* pairs with stack_view */
		*made = view;
	}
	if (!stack->reader)
		acknowledge(d, seen);
	stack_tidy(stack, view);
	return FLAGSTONE_OK;
}

static flagstone_status stack_refresh(struct stack *stack, struct view **view)
{
	turn_take(&stack->making, UINT64_MAX);
	flagstone_status status = view_make(stack, view);
	turn_give(&stack->making);
	return status;
}

static void stacks_look(struct domain *d)
{
	turn_take(&stacks_lock, UINT64_MAX);
	for (struct stack *stack = stacks_first; stack; stack = stack->next) {
		struct view *view;
		if (stack->domain == d && turn_take(&stack->making, 0)) {
			if (view_make(stack, &view) == FLAGSTONE_OK)
				stack_tidy(stack, view);
			turn_give(&stack->making);
		}
	}
	turn_give(&stacks_lock);
}

/* --- Opening and closing a stack --- */

static void stack_free(struct stack *stack)
{
	for (struct slab *slab = stack->slabs, *next; slab; slab = next) {
		next = slab->next;
		if (slab->segment_held)
			segment_detach(stack->domain, slab->segment_held);
		free(slab);
	}
	for (struct view *view = stack_view(stack), *older; view; view = older) {
		older = view->older;
		free(view);
	}
	if (stack->turns)
		turns_put(stack->domain, stack->turns);
	if (!stack->borrowed)
		domain_release(stack->domain);
	free(stack);
}

static void stack_close(struct stack *stack)
{
	turn_take(&stacks_lock, UINT64_MAX);
	for (struct stack **link = &stacks_first; *link; link = &(*link)->next)
		if (*link == stack) {
			*link = stack->next;
			break;
		}
	turn_give(&stacks_lock);
	stack_free(stack);
}

/* The stack of a published tier 0. borrowed: the caller keeps the domain object, which may be closed meanwhile, as the service thread does. */
static flagstone_status stack_make(struct domain *d, const struct entry *top, bool borrowed, struct stack **made)
{
	struct stack *stack = aligned_alloc(_Alignof(struct stack), sizeof *stack);
	struct view *view;
	if (!stack)
		return fail(FLAGSTONE_NOMEMORY, "no memory for a stack");
	memset(stack, 0, sizeof *stack);
	if (!borrowed)
		domain_hold(d);
	stack->borrowed = borrowed;
	stack->domain = d;
	stack->id = top->id;
	stack->seed = d->hash_seed;
	stack->reader = d->read;
	stack->promote = true;
	struct slab *slab;
	flagstone_status status = slab_get(stack, top, &slab);
	if (status == FLAGSTONE_OK) {
		const struct geometry *g = &slab->geometry;
		stack->shards = g->shards;
		stack->max_key = g->max_key;
		stack->max_value = g->max_value;
		stack->stamp_millis = g->stamp_millis;
		stack->turns = turns_get(d, stack->id, g->shards);
		status = stack->turns ? view_make(stack, &view) : fail(FLAGSTONE_NOMEMORY, "no memory for a stack");
	}
	if (status != FLAGSTONE_OK) {
		stack_free(stack);
		return status;
	}
	turn_take(&stacks_lock, UINT64_MAX);
	stack->next = stacks_first;
	stacks_first = stack;
	turn_give(&stacks_lock);
	*made = stack;
	return FLAGSTONE_OK;
}

/* The published tier 0 of that name. */
static bool stack_find(struct domain *d, const char *name, struct entry *entry)
{
	for (uint32_t number = 0; number < d->shape.entries; number++)
		if (entry_read(d, number, entry) && entry_published(entry) && entry->kind == FS_KindSlab && entry->tier == 0 &&
		    entry->stack == entry->id && entry->name_length == strlen(name) && memcmp(entry->name, name, entry->name_length) == 0)
			return true;
	return false;
}

static bool stack_primary(const char *name)
{
	return strcmp(name, "primary") == 0;
}

struct stack_fill {
	struct domain *domain;
	const struct geometry *geometry;
};

static flagstone_status stack_format(void *context, void *base, size_t size, uint64_t id)
{
	const struct stack_fill *fill = context;
	struct domain *d = fill->domain;
	struct owner owner = {.segment = id, .uuid = {d->uuid[0], d->uuid[1]}, .seed = d->hash_seed, .created = clock_wall(d)};
	if (size != fill->geometry->file_size)
		return fail(FLAGSTONE_GEOMETRY, "a slab of %zu bytes instead of %" PRIu64, size, fill->geometry->file_size);
	geometry_format(base, fill->geometry, &owner);
	return FLAGSTONE_OK;
}

/* A new slab of a stack (0: a tier 0); inside Exclusive. */
static flagstone_status slab_publish(struct domain *d, const char *name, uint64_t stack, uint32_t tier, const struct geometry *g, struct entry *entry)
{
	struct stack_fill fill = {d, g};
	size_t length = strlen(name);
	if (length > FS_NameLength || (length == 0 && stack == 0)) /* a tier's informs, a tier 0 is found by its */
		return fail(FLAGSTONE_OPTIONS, "a slab's name has 1 to %d bytes, not %zu", (int)FS_NameLength, length);
	*entry = (struct entry){.kind = (uint32_t)FS_KindSlab, .tier = tier, .stack = stack, .size = g->file_size, .name_length = length,
	                        .params = {g->shards, g->cells, g->cell_size, g->capacity}};
	memcpy(entry->name, name, length);
	return publish(d, entry, stack_format, &fill);
}

/* Inside Exclusive: looks again, and makes it. */
static flagstone_status stack_create(struct domain *d, const char *name, const struct shape *shape, bool fresh, struct entry *entry)
{
	struct geometry g;
	if (stack_find(d, name, entry))
		return fresh ? fail(FLAGSTONE_SLABEXISTS, "there is a slab %s", name) : FLAGSTONE_OK;
	flagstone_status status = geometry_plan(shape, &g);
	return status == FLAGSTONE_OK ? slab_publish(d, name, 0, 0, &g, entry) : status;
}

static flagstone_status stack_open(struct domain *d, const char *name, const struct shape *shape, bool fresh, struct stack **stack)
{
	struct entry entry;
	bool there = stack_find(d, name, &entry);
	if (there && fresh)
		return fail(FLAGSTONE_SLABEXISTS, "there is a slab %s", name);
	if (there && entry.state == FS_EntryDraining && !stack_primary(name))
		return fail(FLAGSTONE_NOSLAB, "slab %s is being retired", name);
	if (!there && !shape)
		return fail(stack_primary(name) ? FLAGSTONE_NOTFOUND : FLAGSTONE_NOSLAB, "there is no slab %s", name);
	if (!there) {
		uint64_t deadline = deadline_in(d->options.patience ? d->options.patience : 5000);
		flagstone_status status = domain_writable(d);
		if (status == FLAGSTONE_OK && !stack_primary(name))
			status = tiers_finish(d, deadline);
		if (status == FLAGSTONE_OK)
			status = exclusive_begin(d, deadline);
		if (status != FLAGSTONE_OK)
			return status;
		status = stack_create(d, name, shape, fresh, &entry);
		exclusive_end(d);
		if (status != FLAGSTONE_OK)
			return status;
	}
	return stack_make(d, &entry, false, stack);
}
