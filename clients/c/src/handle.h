/* What stands behind a `flagstone *`: a domain object, shared by handles, and one stack. */
#ifndef FLAGSTONE_HANDLE_H
#define FLAGSTONE_HANDLE_H

#include <stdlib.h>

#include "slab.h"

enum { HOLDS_NOTHING, HOLDS_SOON, HOLDS };

struct flagstone {
	struct domain *domain;
	struct stack *stack;
	uint32_t life;               /* of the domain object, when the stack was opened */
	_Atomic(uint32_t) patience;
	bool no_promote, steward;
	char *slab;                  /* an independent slab's name, or NULL */
	struct flagstone *next;      /* of this process's handles, for the steward's duties */
	_Atomic(uint32_t) holding;   /* HOLDS: `held` is a column whose lock flagstone_hold took */
	struct column held;
	struct {                     /* where the duties are */
		uint64_t cell, drain, live, since;
	} duties;
};

/* The slow part of handle_enter: why the handle cannot be used. */
static flagstone_status handle_refuse(struct flagstone *h);

/* Every public function begins with this, before it touches a mapping, */
static inline flagstone_status handle_enter(struct flagstone *h)
{
	if (unlikely(!h || domain_ready(h->domain) != FLAGSTONE_OK || h->life != h->domain->life))
		return handle_refuse(h);
	busy(h->domain);
	return FLAGSTONE_OK;
}

/* and ends with this: an answer taken from a mapping that has failed meanwhile is none. */
static inline flagstone_status handle_leave(struct flagstone *h, flagstone_status status)
{
	flagstone_status now = domain_ready(h->domain);
	return likely(now == FLAGSTONE_OK) ? status : now;
}

/* The same for whoever writes. */
static flagstone_status handle_enter_writer(struct flagstone *h);

static inline uint64_t handle_deadline(struct flagstone *h)
{
	return deadline_in(atomic_load_explicit(&h->patience, memory_order_relaxed));
}

/* A view of Changes as it is now, whole, or why there is none. */
static flagstone_status stack_whole(struct stack *stack, struct view **view);

/* The place in a view of the tier of that number; FLAGSTONE_NOSLAB. */
static flagstone_status handle_tier(struct flagstone *h, uint32_t number, uint32_t *tier);

/* A key as the slab knows it, with memory for bytes that the caller did not have in a row. */
struct stored_key {
	struct key key;
	void *far;
	unsigned char near[264];
};

/* make: a namespace that has no id gets one. FLAGSTONE_NO: it has none, so there is no such record. Give back with stored_key_end in any case. */
static flagstone_status stored_key_begin(struct flagstone *h, const flagstone_key *key, bool make, struct stored_key *stored);
static inline void stored_key_end(struct stored_key *stored)
{
	if (unlikely(stored->far != NULL))
		free(stored->far);
}

/* A namespace's id (section 14, Namespaces); FLAGSTONE_NO: it has none. */
static flagstone_status namespace_id(struct flagstone *h, const void *name, size_t length, bool make, unsigned char id[8]);

/* What a caller wants written, as the slab stores it. */
static flagstone_status record_make(struct flagstone *h, const struct key *key, const void *value, size_t length, const flagstone_write *write,
                                    struct record *record);

/* Records that scans and evictions do not report. */
static inline bool record_internal(uint32_t flags)
{
	return (flags & (FS_FlagClaim | FS_FlagNamespace)) != 0;
}

/* The lower half of a column's epoch: rebuilds and moves up. */
static inline uint64_t epoch_low(const struct shard *top)
{
	return atomic_load(&top->head->Epoch) & FS_EpochRebuildMask;
}

#endif
