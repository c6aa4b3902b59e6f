/* Beginning and end of handles, and keys as callers name them. */
#include "handle.h"

#include <stdlib.h>
#include <string.h>

static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;
static struct flagstone *handles; /* of this process */
static pthread_once_t handles_once = PTHREAD_ONCE_INIT;

/* In a forked child nobody has the lock who might give it back. */
static void handles_forked(void)
{
	handles_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	stacks_forked();
}

static void handles_begin(void)
{
	pthread_atfork(NULL, NULL, handles_forked);
}

static void handles_add(struct flagstone *h)
{
	pthread_mutex_lock(&handles_lock);
	h->next = handles;
	handles = h;
	pthread_mutex_unlock(&handles_lock);
}

static void handles_remove(struct flagstone *h)
{
	pthread_mutex_lock(&handles_lock);
	for (struct flagstone **at = &handles; *at; at = &(*at)->next)
		if (*at == h) {
			*at = h->next;
			break;
		}
	pthread_mutex_unlock(&handles_lock);
}

static flagstone_status handle_refuse(struct flagstone *h)
{
	if (!h)
		return fail(FLAGSTONE_CLOSED, "there is no handle");
	flagstone_status status = domain_ready(h->domain);
	return status != FLAGSTONE_OK ? status : fail(FLAGSTONE_FORKED, "the handle was opened by the parent process: flagstone_reattach");
}

static flagstone_status handle_enter_writer(struct flagstone *h)
{
	flagstone_status status = handle_enter(h);
	return status != FLAGSTONE_OK ? status : domain_writable(h->domain);
}

static void shape_wanted(const flagstone_options *o, struct shape *shape)
{
	*shape = (struct shape){
		.entries = o->entries || o->bytes ? o->entries : 65536,
		.bytes = o->bytes,
		.cell_size = o->cell,
		.max_key = o->max_key,
		.max_value = o->max_value,
		.shards = o->shards,
		.order = o->order,
		.full = o->full,
		.stamp_millis = o->precision ? o->precision - 1 : 999,
	};
}

/* A handle of a domain object that the caller holds, which goes with the handle. */
static flagstone_status handle_make(struct domain *d, const char *slab, const struct shape *shape, const struct flagstone *like,
                                    struct flagstone **made)
{
	struct flagstone *h = calloc(1, sizeof *h);
	if (!h || (slab && !(h->slab = strdup(slab)))) {
		free(h);
		domain_release(d);
		return fail(FLAGSTONE_NOMEMORY, "no memory for a handle");
	}
	h->domain = d;
	h->life = d->life;
	h->no_promote = like->no_promote;
	h->steward = like->steward;
	atomic_init(&h->patience, atomic_load(&like->patience));
	flagstone_status status = stack_open(d, slab ? slab : "primary", shape, false, &h->stack);
	if (status != FLAGSTONE_OK) {
		domain_release(d);
		free(h->slab);
		free(h);
		return status;
	}
	h->stack->promote = !h->no_promote && !d->read;
	pthread_once(&handles_once, handles_begin);
	handles_add(h);
	*made = h;
	return FLAGSTONE_OK;
}

flagstone_status flagstone_open(const char *dir, const char *name, const flagstone_options *options, flagstone **handle)
{
	static const flagstone_options defaults;
	const flagstone_options *o = options ? options : &defaults;
	if (!name || !handle)
		return fail(FLAGSTONE_OPTIONS, "open: name and handle must be given");
	struct flagstone like = {.no_promote = o->no_promote, .steward = o->steward};
	atomic_init(&like.patience, o->patience ? o->patience : 5000);
	bool make = !o->attach && !o->read && !o->slab;
	struct domain_options wanted = {
		.create = make,
		.read = o->read,
		.group = o->group,
		.steward = o->steward && !o->read,
		.wake = o->wake,
		.wake_signal = o->wake_signal,
		.patience = atomic_load(&like.patience),
		.regions = o->regions,
	};
	struct shape shape;
	struct geometry geometry;
	struct domain *d;
	flagstone_status status = FLAGSTONE_OK;
	shape_wanted(o, &shape);
	/* What is impossible is refused before anything is made. */
	if (o->regions > FS_MaxRegions)
		status = fail(FLAGSTONE_OPTIONS, "%u regions, at most %u are possible", o->regions, (unsigned)FS_MaxRegions);
	else if (make)
		status = geometry_plan(&shape, &geometry);
	if (status == FLAGSTONE_OK)
		status = domain_open(dir ? dir : "/dev/shm", name, &wanted, &d);
	if (status != FLAGSTONE_OK)
		return status;
	return handle_make(d, o->slab, make ? &shape : NULL, &like, handle);
}

flagstone_status flagstone_slab(flagstone *handle, const char *name, flagstone **slab)
{
	flagstone_status status = handle_enter(handle);
	if (status != FLAGSTONE_OK)
		return status;
	if (!slab)
		return fail(FLAGSTONE_OPTIONS, "slab: no place for the handle");
	domain_hold(handle->domain);
	return handle_make(handle->domain, name, NULL, handle, slab);
}

void flagstone_close(flagstone *handle)
{
	if (!handle)
		return;
	bool whole = domain_ready(handle->domain) != FLAGSTONE_FORKED && handle->life == handle->domain->life;
	handles_remove(handle);
	if (whole && atomic_load(&handle->holding) == HOLDS)
		column_leave(&handle->held, FLAGSTONE_OK);
	stack_close(handle->stack);
	domain_release(handle->domain);
	free(handle->slab);
	free(handle);
}

flagstone_status flagstone_reattach(flagstone *handle)
{
	if (!handle)
		return handle_refuse(handle);
	flagstone_status status = domain_reattach(handle->domain);
	if (status != FLAGSTONE_OK || handle->life == handle->domain->life)
		return status;
	struct stack *stack;
	status = stack_open(handle->domain, handle->slab ? handle->slab : "primary", NULL, false, &stack);
	if (status != FLAGSTONE_OK)
		return status;
	stack->promote = !handle->no_promote && !handle->domain->read;
	pthread_mutex_lock(&handles_lock); /* the duties look at the handle */
	struct stack *before = handle->stack;
	handle->stack = stack;
	handle->life = handle->domain->life;
	pthread_mutex_unlock(&handles_lock);
	stack_close(before);
	atomic_store(&handle->holding, HOLDS_NOTHING);
	return FLAGSTONE_OK;
}

flagstone_status flagstone_destroy(const char *dir, const char *name)
{
	if (!name)
		return fail(FLAGSTONE_OPTIONS, "destroy: no name");
	return domain_destroy(dir ? dir : "/dev/shm", name, 5000);
}

flagstone_status flagstone_list(const char *dir, bool (*each)(void *context, const char *name), void *context)
{
	return domain_list(dir ? dir : "/dev/shm", each, context);
}

flagstone_status flagstone_gc(const char *dir, bool unused, uint64_t *removed)
{
	uint64_t n = 0;
	flagstone_status status = domain_collect(dir ? dir : "/dev/shm", unused, &n);
	if (removed)
		*removed = n;
	return status;
}

flagstone_status flagstone_region(flagstone *handle, uint32_t *region, uint32_t *generation)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	if (region)
		*region = handle->domain->region;
	if (generation)
		*generation = handle->domain->generation;
	return FLAGSTONE_OK;
}

uint32_t flagstone_patience(flagstone *handle, uint32_t millis)
{
	return handle ? atomic_exchange(&handle->patience, millis) : 0;
}

static flagstone_status stack_whole(struct stack *stack, struct view **view)
{
	flagstone_status status = stack_refresh(stack, view);
	return status == FLAGSTONE_OK && (*view)->lacking != FLAGSTONE_OK ? view_lacks(stack, *view) : status;
}

static flagstone_status handle_tier(struct flagstone *h, uint32_t number, uint32_t *tier)
{
	struct view *view;
	*tier = 0;
	if (number == 0)
		return FLAGSTONE_OK;
	flagstone_status status = stack_whole(h->stack, &view);
	if (status != FLAGSTONE_OK)
		return status;
	for (uint32_t i = 1; i < view->tiers; i++)
		if (view->slab[i]->number == number) {
			*tier = i;
			return FLAGSTONE_OK;
		}
	return fail(FLAGSTONE_NOSLAB, "there is no tier %u among %u slabs", number, view->tiers);
}

/* --- Keys --- */

static void little_endian(unsigned char bytes[8], uint64_t x)
{
	for (int i = 0; i < 8; i++)
		bytes[i] = (unsigned char)(x >> 8 * i);
}

static uint64_t from_little_endian(const unsigned char bytes[8])
{
	uint64_t x = 0;
	for (int i = 7; i >= 0; i--)
		x = x << 8 | bytes[i];
	return x;
}

static flagstone_status stored_key_scoped(struct flagstone *h, const flagstone_key *key, bool make, struct stored_key *stored)
{
	unsigned char id[8], *bytes = stored->near;
	if (key->length > h->stack->max_key)
		return fail(FLAGSTONE_KEYTOOLONG, "a key of %zu bytes in a namespace, the limit is %u with its id", key->length, h->stack->max_key);
	flagstone_status status = namespace_id(h, key->space, key->space_length, make, id);
	if (status != FLAGSTONE_OK)
		return status;
	if (key->length + 8 > sizeof stored->near && !(bytes = stored->far = malloc(key->length + 8)))
		return fail(FLAGSTONE_NOMEMORY, "no memory for a key of %zu bytes", key->length);
	memcpy(bytes, id, 8);
	memcpy(bytes + 8, key->bytes, key->length);
	stored->key = key_make(h->stack, bytes, key->length + 8, FS_FlagScoped);
	return FLAGSTONE_OK;
}

static inline flagstone_status stored_key_begin(struct flagstone *h, const flagstone_key *key, bool make, struct stored_key *stored)
{
	stored->far = NULL;
	if (unlikely(key->space != NULL))
		return stored_key_scoped(h, key, make, stored);
	if (key->bytes == NULL) {
		little_endian(stored->near, key->hash);
		stored->key = key_make(h->stack, stored->near, 8, FS_FlagHashKey);
		return FLAGSTONE_OK;
	}
	if (unlikely(key->length > h->stack->max_key && make))
		return fail(FLAGSTONE_KEYTOOLONG, "a key of %zu bytes, the limit is %u", key->length, h->stack->max_key);
	stored->key = key_make(h->stack, key->bytes, key->length, 0);
	return FLAGSTONE_OK;
}
