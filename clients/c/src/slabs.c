/* The directory and what is done with whole slabs. */
#include "handle.h"

#include <string.h>

static const char *const entry_states[] = {"free", "creating", "active", "open", "draining", "retired"};

flagstone_status flagstone_entries(flagstone *handle, bool (*each)(void *context, const flagstone_entry *entry), void *context)
{
	flagstone_status status = handle_enter(handle);
	if (status != FLAGSTONE_OK)
		return status;
	bool more = true;
	for (uint32_t i = 0; more && i < handle->domain->shape.entries; i++) {
		struct entry e;
		if (!entry_read(handle->domain, i, &e))
			continue;
		flagstone_entry about = {
			.state = e.state < sizeof entry_states / sizeof *entry_states ? entry_states[e.state] : "unknown",
			.kind = e.kind,
			.tier = e.tier,
			.segment = e.id,
			.stack = e.stack,
			.size = e.size,
			.name_length = e.name_length,
		};
		memcpy(about.name, e.name, sizeof about.name);
		if ((status = handle_leave(handle, FLAGSTONE_OK)) != FLAGSTONE_OK)
			return status;
		more = each(context, &about);
	}
	return FLAGSTONE_OK;
}

flagstone_status flagstone_refresh(flagstone *handle, uint32_t *tiers)
{
	struct view *view;
	flagstone_status status = handle_enter(handle);
	if (status == FLAGSTONE_OK)
		status = stack_whole(handle->stack, &view);
	if (status == FLAGSTONE_OK && tiers)
		*tiers = view->tiers;
	return status == FLAGSTONE_OK ? handle_leave(handle, FLAGSTONE_OK) : status;
}

/* Up to 32 bytes: what a directory entry has room for. What is found by its name has one. */
static flagstone_status slab_name(const char *name, size_t least)
{
	size_t n = name ? strlen(name) : 0;
	if (n < least || n > FS_NameLength)
		return fail(FLAGSTONE_OPTIONS, "a name of %zu bytes, %zu to %u are possible", n, least, (unsigned)FS_NameLength);
	return FLAGSTONE_OK;
}

flagstone_status flagstone_grow(flagstone *handle, const char *name, uint64_t bytes, uint64_t *segment)
{
	struct view *view;
	struct shape shape;
	uint64_t id = 0;
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = slab_name(name, 0);
	if (status == FLAGSTONE_OK)
		status = stack_whole(handle->stack, &view);
	if (status != FLAGSTONE_OK)
		return status;
	tiers_shape(view->slab[0], &shape);
	shape.entries = 0;
	shape.bytes = bytes;
	status = tiers_grow(handle->stack, name ? name : "", &shape, handle_deadline(handle), &id);
	if (segment)
		*segment = id;
	return handle_leave(handle, status);
}

flagstone_status flagstone_drain(flagstone *handle, uint32_t number, uint64_t *moved)
{
	struct view *view;
	uint32_t tier = 0;
	uint64_t n = 0;
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK && number == 0)
		status = fail(FLAGSTONE_OPTIONS, "tier 0 goes with its stack only");
	if (status == FLAGSTONE_OK)
		status = stack_whole(handle->stack, &view);
	if (status == FLAGSTONE_OK)
		status = handle_tier(handle, number, &tier);
	if (status != FLAGSTONE_OK)
		return status;
	view = stack_view(handle->stack);
	status = tier < view->tiers ? tiers_drain(handle->stack, view->slab[tier]->segment, handle_deadline(handle), &n)
	                            : fail(FLAGSTONE_NOSLAB, "tier %u has gone", number);
	if (moved)
		*moved = n;
	return handle_leave(handle, status);
}

flagstone_status flagstone_age(flagstone *handle, uint32_t from, uint32_t to, uint64_t cutoff, uint64_t limit, uint64_t *moved)
{
	uint32_t source, target;
	uint64_t n = 0;
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = handle_tier(handle, from, &source);
	if (status == FLAGSTONE_OK)
		status = handle_tier(handle, to, &target);
	if (status == FLAGSTONE_OK && source == target)
		status = fail(FLAGSTONE_OPTIONS, "from tier %u to itself", from);
	if (status != FLAGSTONE_OK)
		return status;
	status = tiers_age(handle->stack, source, target, cutoff, limit, handle_deadline(handle), &n);
	if (moved)
		*moved = n;
	return handle_leave(handle, status);
}

/* The primary slab's shape. */
static flagstone_status slab_primary_shape(flagstone *handle, struct shape *shape)
{
	struct stack *primary;
	struct view *view;
	flagstone_status status = stack_open(handle->domain, "primary", NULL, false, &primary);
	if (status != FLAGSTONE_OK)
		return status;
	status = stack_whole(primary, &view);
	if (status == FLAGSTONE_OK)
		tiers_shape(view->slab[0], shape);
	stack_close(primary);
	return status;
}

flagstone_status flagstone_make_slab(flagstone *handle, const char *name, uint64_t bytes, const flagstone_options *options, uint64_t *segment)
{
	struct shape shape;
	struct stack *stack;
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = slab_name(name, 1);
	if (status == FLAGSTONE_OK && options)
		shape_wanted(options, &shape);
	else if (status == FLAGSTONE_OK)
		status = slab_primary_shape(handle, &shape);
	if (status != FLAGSTONE_OK)
		return status;
	shape.entries = 0;
	shape.bytes = bytes;
	if ((status = stack_open(handle->domain, name, &shape, true, &stack)) != FLAGSTONE_OK)
		return status;
	if (segment)
		*segment = stack->id;
	stack_close(stack);
	return handle_leave(handle, FLAGSTONE_OK);
}

flagstone_status flagstone_retire(flagstone *handle, const char *name)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = slab_name(name, 1);
	if (status != FLAGSTONE_OK)
		return status;
	return handle_leave(handle, tiers_retire(handle->domain, name, handle_deadline(handle)));
}

static flagstone_status move_open(flagstone *handle, const char *name, struct stack **stack)
{
	flagstone_status status = name ? slab_name(name, 1) : FLAGSTONE_OK;
	return status != FLAGSTONE_OK ? status : stack_open(handle->domain, name ? name : "primary", NULL, false, stack);
}

flagstone_status flagstone_move(flagstone *handle, const char *from, const char *to, uint64_t limit, uint64_t *moved)
{
	struct stack *source = NULL, *target = NULL;
	uint64_t n = 0;
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = move_open(handle, from, &source);
	if (status == FLAGSTONE_OK)
		status = move_open(handle, to, &target);
	if (status == FLAGSTONE_OK && source->id == target->id)
		status = fail(FLAGSTONE_OPTIONS, "from a slab to itself");
	if (status == FLAGSTONE_OK)
		status = handle_leave(handle, tiers_between(source, target, limit, handle_deadline(handle), &n));
	if (target)
		stack_close(target);
	if (source)
		stack_close(source);
	if (moved)
		*moved = n;
	return status;
}

struct publishing {
	flagstone_status (*fill)(void *context, void *memory, size_t bytes);
	void *context;
};

static flagstone_status publish_fill(void *context, void *base, size_t size, uint64_t id)
{
	struct publishing *p = context;
	(void)id;
	return p->fill ? p->fill(p->context, base, size) : FLAGSTONE_OK;
}

flagstone_status flagstone_publish(flagstone *handle, const char *name, uint64_t bytes,
                                   flagstone_status (*fill)(void *context, void *memory, size_t bytes), void *context, uint64_t *segment)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = slab_name(name, 1);
	if (status == FLAGSTONE_OK && (bytes == 0 || bytes > INT64_MAX))
		status = fail(FLAGSTONE_OPTIONS, "a segment of %llu bytes", (unsigned long long)bytes);
	if (status != FLAGSTONE_OK)
		return status;
	struct entry wanted = {.kind = FS_KindApplication, .size = bytes, .name_length = strlen(name)};
	struct publishing p = {fill, context};
	memcpy(wanted.name, name, wanted.name_length);
	status = publish(handle->domain, &wanted, publish_fill, &p);
	if (status == FLAGSTONE_OK && segment)
		*segment = wanted.id;
	return handle_leave(handle, status);
}
