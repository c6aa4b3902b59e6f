/* Taking and leaving a column's lock (PROTOCOL.md, 14). */

enum { VIEW_TRIES = 16 };

static void column_begin(struct column *c, struct stack *stack, uint32_t number, struct view *view)
{
	struct FS_Shard *top = view->slab[0]->shards[number].head;
	*c = (struct column){
		.stack = stack,
		.view = view,
		.number = number,
		.tiers = view->tiers,
		.top = top,
		.lock = {&top->Lock, &top->Futex, &stack->turns->turn[number]},
	};
}

static flagstone_status view_lacks(const struct stack *stack, const struct view *view)
{
	if (view->lacking == FLAGSTONE_RETIRED)
		return fail(FLAGSTONE_RETIRED, "stack %016" PRIx64 " is retired, or is being retired", stack->id);
	return fail(view->lacking, "stack %016" PRIx64 ": its slab after %" PRIu32 " cannot be attached: %s", stack->id, view->tiers,
	            flagstone_status_name(view->cause));
}

/* Who retires a stack writes into it although it is being retired. */
static inline bool view_serves(const struct stack *stack, const struct view *view)
{
	return view->lacking == FLAGSTONE_OK || (stack->retiring && view->lacking == FLAGSTONE_RETIRED);
}

/* A view that is whole and has the directory's Changes. */
static flagstone_status view_whole(struct stack *stack, struct view **view)
{
	flagstone_status status = FLAGSTONE_OK;
	*view = stack_view(stack);
	if (!view_serves(stack, *view) || atomic_load(&(*view)->changes) != changes(stack->domain))
		status = stack_refresh(stack, view);
	if (status == FLAGSTONE_OK && !view_serves(stack, *view))
		status = view_lacks(stack, *view);
	return status;
}

/* Step 3. The lock is held. */
static flagstone_status column_settle(struct column *c, bool repair)
{
	c->wall = clock_wall(c->stack->domain);
	c->now = clock_domain(c->stack->domain);
	if (!repair && (atomic_load(&c->top->Epoch) & FS_EpochRebuilding) == 0)
		return FLAGSTONE_OK;
	if (repair)
		shard_count(&c->top->Steals, 1);
	flagstone_status status = column_rebuild(c);
	return status == FLAGSTONE_OK ? FLAGSTONE_OK : column_leave(c, status);
}

static flagstone_status column_enter(struct column *c, struct stack *stack, uint32_t number, uint64_t deadline)
{
	struct domain *d = stack->domain;
	flagstone_status status = domain_writable(d);
	if (status == FLAGSTONE_OK)
		busy(d);
	for (int tries = 0; tries < VIEW_TRIES && status == FLAGSTONE_OK; tries++) {
		struct view *view;
		bool repair;
		status = view_whole(stack, &view);
		if (status != FLAGSTONE_OK)
			break;
		column_begin(c, stack, number, view);
		status = lock_take(d, c->lock, deadline, &repair);
		if (status != FLAGSTONE_OK)
			break;
		if (changes(d) == atomic_load(&view->changes)) /* pairs with the add to Changes before OPEN (drain.pml BREAK_VIEW_WRITER) */
			return column_settle(c, repair);
		status = lock_give(d, c->lock, repair);
	}
	return status == FLAGSTONE_OK ? fail(FLAGSTONE_BUSY, "the directory does not stand still") : status;
}

/* Without waiting; what it finds to repair is left to the next writer, if steal is not set. */
static flagstone_status column_once(struct column *c, struct stack *stack, uint32_t number, struct view *view, bool steal)
{
	struct domain *d = stack->domain;
	bool repair;
	if (stack->reader || view->lacking != FLAGSTONE_OK)
		return FLAGSTONE_BUSY;
	column_begin(c, stack, number, view);
	flagstone_status status = lock_try(d, c->lock, steal, &repair);
	if (status != FLAGSTONE_OK)
		return status;
	bool due = repair || (atomic_load(&c->top->Epoch) & FS_EpochRebuilding) != 0;
	if (changes(d) == atomic_load(&view->changes) && (steal || !due))
		return column_settle(c, repair);
	status = lock_give(d, c->lock, repair);
	return status == FLAGSTONE_OK ? FLAGSTONE_BUSY : status;
}

static flagstone_status column_try(struct column *c, struct stack *stack, uint32_t number, struct view *view)
{
	return column_once(c, stack, number, view, false);
}

static flagstone_status column_leave(struct column *c, flagstone_status status)
{
	struct domain *d = c->stack->domain;
	flagstone_status fate = domain_ready(d);
	if (fate != FLAGSTONE_OK)
		status = fate;
	bool broken = c->broken || status == FLAGSTONE_CORRUPT || status == FLAGSTONE_FAULT;
	if (broken)
		atomic_fetch_or(&c->top->Epoch, FS_EpochRebuilding);
	flagstone_status given = lock_give(d, c->lock, broken);
	return given == FLAGSTONE_OK ? status : given;
}

static bool column_again(struct column *c, flagstone_status *status)
{
	if (*status != FLAGSTONE_CORRUPT || c->mended)
		return false;
	c->mended = true;
	*status = column_rebuild(c);
	return *status == FLAGSTONE_OK;
}
