/* The slab parts alone: a domain in the heap whose clocks, directory and locks are the test's own. */
#ifndef FLAGSTONE_SLAB_STUB_H
#define FLAGSTONE_SLAB_STUB_H

/* What the slab parts do not need of the rest stays without a body. */
#pragma GCC diagnostic ignored "-Wunused-function"

#include "../flagstone.h"
#include "../src/layout.h"
#include "../src/hash.h"
#include "../src/domain.h"
#include "../src/slab.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/hash.c"

static _Thread_local char stub_text[512];

static flagstone_status fail(flagstone_status status, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(stub_text, sizeof stub_text, format, arguments);
	va_end(arguments);
	return status;
}

const char *flagstone_status_name(flagstone_status status) { return (void)status, "status"; }

/* --- The domain --- */

enum { STUB_ENTRIES = 16 };

static struct {
	struct domain domain;
	struct FS_ControlHeader header;
	struct FS_Entry entries[STUB_ENTRIES];
	struct segment segments[STUB_ENTRIES];
	struct stripe stripes[2];
	uint64_t ids, random;
} stub;

static uint64_t random_word(void)
{
	stub.random ^= stub.random << 13;
	stub.random ^= stub.random >> 7;
	stub.random ^= stub.random << 17;
	return stub.random;
}

static void stub_begin(uint64_t seed)
{
	memset(&stub, 0, sizeof stub);
	stub.random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
	stub.domain.header = &stub.header;
	stub.domain.stripes = stub.stripes;
	stub.domain.token = UINT64_C(1) << 32 | 1 << 16;
	stub.domain.hash_seed = random_word();
	stub.domain.shape.entries = STUB_ENTRIES;
	stub.domain.shape.entry_offset = (uint64_t)((unsigned char *)stub.entries - (unsigned char *)&stub.header);
	atomic_store(&stub.domain.busy, 1);
	atomic_store(&stub.header.WallClock, 1000000);
	atomic_store(&stub.header.DomainClock, 100000);
	count_stripe = 1;
}

static void stub_tick(uint64_t millis)
{
	atomic_fetch_add(&stub.header.WallClock, millis);
	atomic_fetch_add(&stub.header.DomainClock, millis);
}

static void domain_hold(struct domain *d) { (void)d; }
static void domain_release(struct domain *d) { (void)d; }
static flagstone_status domain_refuse(struct domain *d) { return (flagstone_status)atomic_load(&d->fate); }
static flagstone_status domain_writable(struct domain *d) { return domain_ready(d); }
static void busy_begin(struct domain *d) { (void)d; }
static uint64_t clock_wall_own(void) { return 0; }
static uint64_t clock_domain_own(void) { return 0; }
static uint64_t deadline_in(uint32_t millis) { return millis; }
static void acknowledge(struct domain *d, uint64_t changes) { (void)d, (void)changes; }
static void count_slow(struct domain *d, uint32_t counter, uint64_t n)
{
	atomic_fetch_add(&d->stripes[0].counter[counter], n);
}

/* --- Locks --- */

static bool turn_take(struct turn *turn, uint64_t deadline)
{
	uint32_t word = 0;
	while (!atomic_compare_exchange_strong(&turn->word, &word, 1)) {
		if (deadline == 0)
			return false;
		word = 0;
		usleep(0);
	}
	return true;
}

static void turn_give(struct turn *turn) { atomic_store(&turn->word, 0); }

static struct turns *turns_get(struct domain *d, uint64_t id, uint32_t number)
{
	size_t size = sizeof(struct turns) + number * sizeof(struct turn);
	struct turns *turns = aligned_alloc(_Alignof(struct turns), size);
	(void)d;
	memset(turns, 0, size);
	turns->id = id;
	return turns;
}

static void turns_put(struct domain *d, struct turns *turns)
{
	(void)d;
	free(turns);
}

static flagstone_status lock_try(struct domain *d, struct lock lock, bool steal, bool *repair)
{
	(void)steal;
	if (!turn_take(lock.turn, 0))
		return FLAGSTONE_BUSY;
	*repair = (atomic_exchange(lock.word, d->token) & FS_LockInconsistent) != 0;
	return FLAGSTONE_OK;
}

static flagstone_status lock_take(struct domain *d, struct lock lock, uint64_t deadline, bool *repair)
{
	if (!turn_take(lock.turn, deadline))
		return FLAGSTONE_BUSY;
	*repair = (atomic_exchange(lock.word, d->token) & FS_LockInconsistent) != 0;
	return FLAGSTONE_OK;
}

static flagstone_status lock_give(struct domain *d, struct lock lock, bool broken)
{
	(void)d;
	atomic_store(lock.word, broken ? FS_LockInconsistent : 0);
	turn_give(lock.turn);
	return FLAGSTONE_OK;
}

static flagstone_status exclusive_begin(struct domain *d, uint64_t deadline) { return (void)d, (void)deadline, FLAGSTONE_OK; }
static void exclusive_end(struct domain *d) { (void)d; }

/* --- The directory --- */

static bool entry_read(struct domain *d, uint32_t number, struct entry *entry)
{
	struct FS_Entry *e = &stub.entries[number];
	(void)d;
	*entry = (struct entry){.number = number, .word = e->State, .generation = (uint32_t)(e->State >> 32), .state = e->State & 0xffff,
	                        .drains = (uint16_t)(e->State >> 16), .kind = e->Kind, .tier = e->Tier, .id = e->SegmentID, .size = e->Size, .stack = e->Stack};
	memcpy(entry->name, (void *)e->Name, sizeof entry->name);
	entry->name_length = strnlen((char *)entry->name, sizeof entry->name);
	return entry->state != FS_EntryFree;
}

static flagstone_status publish(struct domain *d, struct entry *wanted, segment_fill fill, void *context)
{
	uint32_t i = 0;
	(void)d;
	while ((stub.entries[i].State & 0xffff) != FS_EntryFree)
		if (++i == STUB_ENTRIES)
			return FLAGSTONE_NOENTRY;
	struct FS_Entry *e = &stub.entries[i];
	struct segment *segment = &stub.segments[i];
	*segment = (struct segment){.base = aligned_alloc(4096, wanted->size), .size = wanted->size, .id = ++stub.ids};
	memset(segment->base, 0, segment->size);
	wanted->number = i;
	wanted->id = segment->id;
	wanted->stack = wanted->stack ? wanted->stack : segment->id;
	wanted->generation = 1;
	wanted->state = FS_EntryOpen;
	wanted->word = UINT64_C(1) << 32 | FS_EntryOpen;
	e->Kind = wanted->kind;
	e->Tier = wanted->tier;
	e->SegmentID = wanted->id;
	e->Size = wanted->size;
	e->Stack = wanted->stack;
	memcpy((void *)e->Name, wanted->name, sizeof wanted->name);
	flagstone_status status = fill(context, segment->base, segment->size, segment->id);
	atomic_fetch_add(&stub.header.Changes, 1);
	e->State = wanted->word;
	return status;
}

static flagstone_status segment_attach(struct domain *d, const struct entry *entry, struct segment **attached)
{
	(void)d;
	*attached = &stub.segments[entry->number];
	return FLAGSTONE_OK;
}

static void segment_detach(struct domain *d, struct segment *segment) { (void)d, (void)segment; }
static void segment_blank(struct domain *d, struct segment *segment)
{
	(void)d;
	memset(segment->base, 0, segment->size);
}

static flagstone_status entry_drain(struct domain *d, uint32_t number, uint32_t generation, uint64_t *word)
{
	(void)d, (void)generation;
	*word = UINT64_C(1) << 32 | UINT64_C(1) << 16 | FS_EntryDraining;
	stub.entries[number].State = *word;
	atomic_fetch_add(&stub.header.Changes, 1);
	return FLAGSTONE_OK;
}

static flagstone_status stub_end_drain(uint32_t number, uint64_t word, uint64_t state)
{
	if (stub.entries[number].State != word)
		return FLAGSTONE_STATE;
	stub.entries[number].State = (word & ~UINT64_C(0xffff)) | state;
	atomic_fetch_add(&stub.header.Changes, 1);
	return FLAGSTONE_OK;
}

static flagstone_status entry_reopen(struct domain *d, uint32_t number, uint64_t word) { return (void)d, stub_end_drain(number, word, FS_EntryOpen); }
static flagstone_status entry_retire(struct domain *d, uint32_t number, uint64_t word) { return (void)d, stub_end_drain(number, word, FS_EntryRetired); }

static void stub_end(void)
{
	for (int i = 0; i < STUB_ENTRIES; i++)
		free(stub.segments[i].base);
}

#include "../src/bytes.c"
#include "../src/geometry.c"
#include "../src/index.c"
#include "../src/order.c"
#include "../src/cells.c"
#include "../src/record.c"
#include "../src/rebuild.c"
#include "../src/column.c"
#include "../src/view.c"
#include "../src/read.c"
#include "../src/write.c"
#include "../src/tiers.c"
#include "../src/between.c"
#include "../src/check.c"
#include "../src/dump.c"

#endif
