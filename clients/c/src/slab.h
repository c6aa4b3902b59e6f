/*
 * Slabs: what tiers, claims, evictions, scans and the public functions build on (PROTOCOL.md, sections 6, 13, 14, 17, 20).
 *
 * Layers, each in a file of its own and using only those above it:
 *   bytes     copies of shared bytes that race by design
 *   geometry  from options to a header, and from a header to checked numbers
 *   index     chains of buckets
 *   order     lists, turns, ghosts, victims
 *   cells     free list, versions, records' chains
 *   record    find, store, remove, make room, move, under a column's lock
 *   rebuild   a column made anew
 *   column    taking and leaving a column's lock
 *   view      the slabs of a stack
 *   read      lookups without a lock
 *   write     set, delete, counters, touch
 *   tiers     batches of moves, growing, draining, retiring
 */
#ifndef FLAGSTONE_SLAB_H
#define FLAGSTONE_SLAB_H

#include "domain.h"
#include "hash.h"
#include "layout.h"

/* --- Geometry: a header's numbers, copied once and checked --- */

struct geometry {
	uint32_t shards, cell_size, cells, buckets, overflow, ghosts;
	uint32_t max_key, max_value, reserve, order, full, stamp_millis;
	uint64_t capacity, shard_stride, ghost_offset, cell_offset, file_size;
};

/* What a new slab is made from; 0 is the default everywhere but in full, and in stamp_millis, which is as it is. */
struct shape {
	uint64_t entries, bytes; /* one of them: records of one cell that fit, or about the file's size */
	uint32_t cell_size, max_key, max_value, shards, order, full, stamp_millis;
};

/* FLAGSTONE_OPTIONS where nothing can be made of it. */
static flagstone_status geometry_plan(const struct shape *shape, struct geometry *g);
/* Cells of a record of so many key and value bytes. */
static uint32_t geometry_cells(const struct geometry *g, uint64_t bytes);

/* Who a slab belongs to, for its header. */
struct owner {
	uint64_t segment, uuid[2], seed, created;
	bool reads; /* only: WriteVersion does not matter */
};
/* Writes the header of a new slab into a mapping of zeros, READY last. */
static void geometry_format(void *base, const struct geometry *g, const struct owner *owner);
/* Those of section 19 on a published slab's first page, which leave its geometry to who attaches it. */
static flagstone_status page_check(const void *base, uint64_t size, const struct owner *owner);
/* The checks of section 8 on the header of a mapped file of `size` bytes; fills *g. */
static flagstone_status geometry_check(const void *base, uint64_t size, const struct owner *owner, struct geometry *g);

/* --- A mapped slab --- */

/* A shard's parts in the mapping. */
struct shard {
	struct FS_Shard *head;
	struct FS_Bucket *buckets;  /* buckets[0 ...] */
	struct FS_Bucket *overflow; /* overflow[1 ...]: the pointer is one before the first */
	_Atomic(uint64_t) *ghosts;  /* two words a bucket */
	unsigned char *cells;       /* cell 1 is at cells + cell_size: see cell_at */
	const struct geometry *geometry;
	uint32_t number;
};

struct slab {
	unsigned char *base;
	struct geometry geometry;
	struct shard shards[FS_MaxShards];
	uint64_t segment, stack;        /* ids */
	uint32_t number;                /* Entry.Tier */
	uint32_t entry;                 /* directory entry */
	uint32_t generation;            /* of the entry */
	_Atomic(uint64_t) *state;       /* its state word; NULL takes records always (tests) */
	struct segment *segment_held;   /* the domain's; NULL once it is closed */
	struct slab *next;              /* of all that the stack ever attached */
	uint32_t passed;                /* columns whose turn was passed since a view left the slab out */
};

/* Fills slab->shards for a mapping whose geometry is checked. */
static void slab_lay_out(struct slab *slab);

static inline struct FS_CellHeader *cell_at(const struct shard *s, uint32_t cell)
{
	return (struct FS_CellHeader *)(void *)(s->cells + (uint64_t)cell * s->geometry->cell_size);
}

/* --- Stack and view --- */

/* The slabs of a stack as the directory had them at `changes`. Immutable but for `changes`; stays until the stack is closed. */
struct view {
	_Atomic(uint64_t) changes;
	uint32_t tiers;
	flagstone_status lacking;   /* why it is not whole: FLAGSTONE_UNATTACHED or FLAGSTONE_RETIRED; FLAGSTONE_OK is whole */
	flagstone_status cause;     /* why a slab cannot be attached */
	struct slab *slab[FS_MaxTiers];
	struct view *older;
};

struct stack {
	struct domain *domain;
	_Atomic(struct view *) view;
	struct turns *turns;        /* of tier 0's shards */
	struct stack *next;         /* of all in this process */
	uint64_t id;                /* segment id of tier 0 */
	uint32_t shards;            /* of every tier */
	uint32_t max_key, max_value, stamp_millis; /* tier 0's */
	uint64_t seed;
	bool promote;               /* hits below tier 0 move up */
	bool reader;                /* no region: writes nothing */
	bool borrowed;              /* the domain object outlives this stack by the caller's care */
	bool retiring;              /* this stack object is to empty a stack that is being retired */
	struct turn making;         /* of views: one after the other */
	struct slab *slabs;
};

/* Opens the stack whose tier 0 has that name, "primary" for the domain's own; makes it from *shape if that is not NULL and there is none
 * (of an independent slab: FLAGSTONE_SLABEXISTS if there is and shape is not NULL and `fresh`). */
static flagstone_status stack_open(struct domain *domain, const char *name, const struct shape *shape, bool fresh, struct stack **stack);
/* Detaches its slabs and frees it. No other thread uses it. */
static void stack_close(struct stack *stack);
/* A view of Changes as it is now, whole or not (see view->lacking); NULL and a status on an error of the domain. */
static flagstone_status stack_refresh(struct stack *stack, struct view **view);
static inline struct view *stack_view(struct stack *stack)
{
	return atomic_load_explicit(&stack->view, memory_order_acquire);
}
/* In a forked child, single-threaded: makes the locks of the stacks' list usable (pthread_atfork, child). The stacks of before are closed as ever. */
static void stacks_forked(void);

/* --- Keys and records --- */

struct key {
	const void *bytes;
	uint32_t length;
	uint32_t flags;  /* FS_Flag... */
	uint64_t hash;
};

/* The hash follows from bytes and flags, FlagClaim left out. */
static struct key key_make(const struct stack *stack, const void *bytes, size_t length, uint32_t flags);
/* The claim on a key: same bytes and hash. */
static inline struct key key_claim(struct key key)
{
	key.flags |= (uint32_t)FS_FlagClaim;
	return key;
}
static inline uint32_t key_shard(const struct stack *stack, const struct key *key)
{
	return (uint32_t)(key->hash & (stack->shards - 1));
}

/* What is to be written. */
struct record {
	struct key key;
	const void *value;
	uint64_t length;
	uint64_t expiry;   /* the packed word: see expiry_pack */
	uint32_t tag;
	uint64_t stamp;    /* 0: now */
};

static inline uint64_t expiry_pack(uint64_t expiry, uint64_t stale)
{
	return expiry | stale << FS_ExpiryStaleShift;
}
/* The value has ended at wall time `wall`. */
static inline bool expiry_over(uint64_t word, uint64_t wall)
{
	uint64_t end = word & FS_ExpiryMask;
	return end != 0 && wall >= end;
}
/* It may not be served as stale any more either. */
static inline bool expiry_gone(uint64_t word, uint64_t wall)
{
	uint64_t end = word & FS_ExpiryMask;
	return end != 0 && wall >= end + (word >> FS_ExpiryStaleShift) * 1000;
}

/* A record as it stands in a cell: a copy of its header, lengths checked. cell 0 is none. */
struct found {
	uint32_t tier, cell;
	_Atomic(uint64_t) *slot;   /* the slot that names it; NULL where it was not found through the index */
	uint64_t version, recency, expiry;
	uint32_t key_length, flags, value_length, tag;
	bool small;                /* stands in the small queue */
};

static inline uint64_t recency_stamp(uint64_t recency) { return recency >> FS_RecencyStampShift; }
static inline uint32_t recency_count(uint64_t recency) { return (uint32_t)(recency & FS_RecencyCountMask); }
static inline uint64_t version_sequence(uint64_t version) { return version >> FS_VersionSequenceShift; }

/* --- A column under its lock --- */

struct column {
	struct stack *stack;
	struct view *view;
	uint32_t number;
	uint32_t tiers;
	struct FS_Shard *top;      /* tier 0's: lock, epoch, sequence */
	uint64_t wall, now;        /* the clock words when it was entered */
	struct lock lock;
	bool mended;               /* was rebuilt for the operation under way */
	bool broken;               /* a rebuild was not completed */
};

static inline const struct shard *column_shard(const struct column *c, uint32_t tier)
{
	return &c->view->slab[tier]->shards[c->number];
}

/* "Taking the lock" (14): waits until the deadline (see deadline_in); compares Changes, makes new views, rebuilds
 * if due. On an error the lock is not held. */
static flagstone_status column_enter(struct column *c, struct stack *stack, uint32_t number, uint64_t deadline);
/* One try, for promotion and lookups that could not be sure: FLAGSTONE_BUSY if somebody has it, the view is old or a rebuild is due. */
static flagstone_status column_try(struct column *c, struct stack *stack, uint32_t number, struct view *view);
/* Gives the lock back; FLAGSTONE_LOST if it was taken away. status: what the operation came to; FLAGSTONE_CORRUPT and FLAGSTONE_FAULT leave the
 * epoch odd and INCONSISTENT. Returns status, or what is worse. */
static flagstone_status column_leave(struct column *c, flagstone_status status);
/*
 * Broken words: every operation under a lock is written as
 *     do status = operation(&c, ...); while (column_again(&c, &status));
 * On FLAGSTONE_CORRUPT the column is made anew, once, and it begins again. For the next operation under the same lock set c.mended = false.
 */
static bool column_again(struct column *c, flagstone_status *status);
/* Section 17, of all tiers of the view. */
static flagstone_status column_rebuild(struct column *c);

/*
 * The functions below want the lock. FLAGSTONE_CORRUPT means that words contradict each other: see column_again.
 */

/* The record of exactly that key, in whichever tier; cell 0 if there is none. Frees what is below another. The expired are found too. */
static flagstone_status record_find(struct column *c, const struct key *key, struct found *found);
/* Make room (14) in tier t for so many cells while keep (or NULL) stays. stay: all are to stay. FLAGSTONE_FULL. */
static flagstone_status record_room(struct column *c, uint32_t tier, uint32_t cells, const struct found *keep, bool stay);
/* Set 3 to 9, after record_room: writes to tier t, visible, in the order; frees old (or NULL). *written is the copy's place and version. */
static flagstone_status record_store(struct column *c, uint32_t tier, const struct record *record, const struct found *old, struct found *written);
/* Both: room, then store; stay as in record_room. */
static flagstone_status record_set(struct column *c, uint32_t tier, const struct record *record, const struct found *old, bool stay, struct found *written);
/* Delete 1 to 5; counts nothing but Live, Used and Bytes: the caller adds to Deletes, EvictedCutoff, ... with shard_count. */
static flagstone_status record_remove(struct column *c, const struct found *found);
/* Moves to tier t, as it is: room must have been made. FLAGSTONE_TOOLARGE, FLAGSTONE_FULL (t takes no records) leave it. */
static flagstone_status record_move(struct column *c, const struct found *found, uint32_t tier, struct found *moved);
/* Recency to now and to the front if the turn is another (Touch; promotion in place does only the latter). */
static void record_use(struct column *c, const struct found *found);
static flagstone_status record_front(struct column *c, const struct found *found);
/* Copies value bytes of a record, from an offset on. */
static flagstone_status record_value(struct column *c, const struct found *found, uint32_t from, void *to, uint32_t bytes);
static flagstone_status record_key(struct column *c, const struct found *found, void *to);
/* The first tier that takes records: its state word is OPEN in the view's generation; tier 0 always. */
static bool tier_takes(const struct column *c, uint32_t tier);
/* Adds to a counter of the shard: shard_count(&s->head->Deletes, 1). */
static void shard_count(_Atomic(uint64_t) *counter, uint64_t n);

/* --- Records of a shard, one by one --- */

/*
 * Cells in use are 1 to shard_cells(s), at most those of the geometry. cell_live copies the header of one if it is a live head whose lengths are
 * possible, between two equal loads of the version; with or without the lock (found->slot is NULL).
 */
static uint32_t shard_cells(const struct shard *s);
static bool cell_live(const struct shard *s, uint32_t tier, uint32_t cell, struct found *found);
/* Under the lock: the slot of a record that cell_live gave; FLAGSTONE_NO if it is not that version any more, FLAGSTONE_CORRUPT if no slot names it. */
static flagstone_status record_locate(struct column *c, struct found *found);
/* Hash of a record's key, from its bytes; with the lock. */
static flagstone_status record_hash(struct column *c, const struct found *found, uint64_t *hash);

/* A chain of tier t, slot by slot, under the lock: the live records that it names. Start with chain_begin; false at the end. */
struct chain_walk {
	struct FS_Bucket *bucket;
	uint32_t slot, steps;
};
static void chain_begin(const struct shard *s, uint32_t bucket, struct chain_walk *walk);
static bool chain_next(const struct column *c, uint32_t tier, struct chain_walk *walk, struct found *found);
static uint32_t bucket_of(const struct geometry *g, uint64_t hash);
/* Does the shard have room for so many cells more, of which `spared` are going to be free? */
static bool record_fits(const struct shard *s, uint32_t cells, uint32_t spared);
static void bucket_prefetch(const struct shard *s, uint64_t hash);

/* The order, newest first: small queue (small) or main queue or list. cell 0 ends it. Under the lock. */
static uint32_t order_first(const struct shard *s, bool small);
static uint32_t order_next(const struct shard *s, uint32_t cell);

/* --- Lookups without a lock (13) --- */

enum lookup_mode {
	LOOKUP_PEEK = 1,   /* no use of the record */
	LOOKUP_STALE = 2,  /* an expired record is a hit until its stale seconds are over */
	LOOKUP_ANY = 4,    /* whatever its expiry; with PEEK: ids, claims */
	LOOKUP_UNCOUNTED = 8, /* moves no counters of hits and misses */
};

struct answer {
	void *buffer;          /* the caller's */
	size_t capacity;       /* of the buffer; what does not fit is left out, length says how long the value is */
	size_t length;
	uint64_t version, expiry /* packed */, recency;
	uint32_t tag, tier;
	bool stale;            /* LOOKUP_STALE: it has expired */
};

/* FLAGSTONE_OK a hit, FLAGSTONE_NO a certain miss, FLAGSTONE_BUSY, or why a miss cannot be believed. */
static flagstone_status lookup(struct stack *stack, const struct key *key, unsigned mode, struct answer *answer);

/*
 * For scans (13, Scan): copies of all live records of tier t whose hashes' low 32 bits lie in first..last and whose chain they stand in. visit
 * gets key and value in memory that is valid until it returns; false ends the walk. FLAGSTONE_BUSY: something changed, begin the page again.
 */
typedef bool (*chain_visit)(void *context, const struct found *found, uint64_t hash, const void *key, const void *value);
static flagstone_status lookup_chain(struct stack *stack, struct view *view, uint32_t shard, uint32_t tier, uint32_t bucket, uint32_t first,
                                     uint32_t last, chain_visit visit, void *context);

/* --- Writes (14) --- */

enum condition { IF_ALWAYS, IF_ABSENT, IF_PRESENT, IF_VERSION };

/* Each takes and leaves the column's lock, ends the claim on the key, begins again after broken words. FLAGSTONE_NO: the condition did not hold. */
static flagstone_status write_set(struct stack *stack, const struct record *record, uint32_t tier, enum condition condition, uint64_t expected,
                                  uint64_t deadline, uint64_t *version);
static flagstone_status write_delete(struct stack *stack, const struct key *key, uint64_t deadline);
/* Where nothing is found the record's expiry and tag are taken, and initial. */
static flagstone_status write_add(struct stack *stack, const struct record *record, int64_t delta, int64_t initial, uint64_t deadline, int64_t *sum);
static flagstone_status write_touch(struct stack *stack, const struct key *key, uint64_t expiry, uint64_t deadline);
/* Ends the claim on a key; under the lock. */
static flagstone_status write_end_claim(struct column *c, const struct key *key);

/* --- Tiers (20) --- */

/* Every column of the stack, one after the other, under its lock, rebuilds it. */
static flagstone_status tiers_rebuild(struct stack *stack, uint64_t deadline);
/* Moves up to `limit` records last used before `cutoff` (domain time, to be lowered as section 16 says) from a tier to another. */
static flagstone_status tiers_age(struct stack *stack, uint32_t from, uint32_t to, uint64_t cutoff, uint64_t limit, uint64_t deadline, uint64_t *moved);
/* Adds a tier of that shape with tier 0's shards. */
static flagstone_status tiers_grow(struct stack *stack, const char *name, const struct shape *shape, uint64_t deadline, uint64_t *segment);
/* The shape of a slab, for growing. */
static void tiers_shape(const struct slab *slab, struct shape *shape);
static flagstone_status tiers_drain(struct stack *stack, uint64_t segment, uint64_t deadline, uint64_t *moved);
/* Takes an independent stack out of the domain, or goes on with it. */
static flagstone_status tiers_retire(struct domain *domain, const char *name, uint64_t deadline);
/* Goes on with the retirements that others began. */
static flagstone_status tiers_finish(struct domain *domain, uint64_t deadline);
/* Moves up to `limit` records from one stack to another, a column's batch at a time; of namespaces the ids are translated. */
static flagstone_status tiers_between(struct stack *from, struct stack *to, uint64_t limit, uint64_t deadline, uint64_t *moved);

/* --- Looking --- */

typedef bool (*check_report)(void *context, const char *text);
/* The slab part of `check`: every column under its lock; what contradicts itself goes to report, a line each. */
static flagstone_status slab_check(struct stack *stack, uint64_t deadline, check_report report, void *context);

/* Of one column, under its lock (the caller has it): sizes of tiers in the view's order, then records. Key and value are valid until visit returns. */
struct dumped {
	struct found found;
	uint32_t shard;
	const void *key, *value;
};
typedef bool (*dump_visit)(void *context, const struct dumped *record);
static flagstone_status slab_dump(struct column *c, uint32_t tier, dump_visit visit, void *context);

#endif
