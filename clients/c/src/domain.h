/*
 * A domain as one process has it open: what the other parts of this client use of the control segment, its locks and its
 * directory. Sections 4, 5, 7 to 12 and 18 of the protocol. Everything here is thread-safe unless it says otherwise.
 */
#ifndef FLAGSTONE_DOMAIN_H
#define FLAGSTONE_DOMAIN_H

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../flagstone.h"
#include "layout.h"

_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "words in shared memory are lock-free and address-free");

#if defined(__GNUC__)
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define printf_like(text, first) __attribute__((format(printf, text, first)))
#else
#define likely(x) (x)
#define unlikely(x) (x)
#define printf_like(format, first)
#endif

/* The fences of section 2. gcc's thread sanitizer knows none; what it puts in the place of each access keeps their order. */
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define fence(order) atomic_signal_fence(order)
#else
#define fence(order) atomic_thread_fence(order)
#endif

/* --- errors.c --- */

/* Stores the thread's error text and returns the status. */
static flagstone_status fail(flagstone_status status, const char *format, ...) printf_like(2, 3);
/* The same for a failed system call: the status that errno stands for; the text ends with errno's. */
static flagstone_status fail_errno(const char *format, ...) printf_like(1, 2);

/* --- sys.c: clocks and random numbers --- */

static uint64_t mono_ns(void);                    /* CLOCK_MONOTONIC */
static uint64_t deadline_in(uint32_t millis);     /* a deadline: mono_ns then; 0 is "try once, do not wait" */
static bool deadline_over(uint64_t deadline);
static void pause_us(uint32_t micros);
static uint64_t random_word(void);                /* never 0 */

/* --- The domain object --- */

struct identity { /* of a process, section 9 */
	uint64_t boot[2], pid_namespace, ticks, inode, instance[2];
	uint32_t pid, uid;
};

struct control_shape { /* counts and places of the control segment, checked once and never read again */
	uint32_t mutexes, entries, regions, held, mapped, stride;
	uint64_t mutex_offset, entry_offset, region_offset, size;
};

struct domain_options {
	bool create;             /* make what is missing */
	bool read;               /* a reader without a region */
	bool group;              /* shared with a group */
	bool steward;            /* offer to be the steward */
	uint32_t wake;           /* FS_WakePoll, FS_WakeFutex, FS_WakeSignal */
	int wake_signal;         /* for FS_WakeSignal; 0 is SIGUSR1 */
	uint32_t patience;       /* milliseconds for InitByte while opening */
	uint32_t regions, entries, mutexes, held, mapped; /* 0: the defaults */
};

/* A word in front of a lock word: whichever thread of this process has it may wait for, take and give back the lock. */
struct turn {
	_Alignas(64) _Atomic(uint32_t) word; /* 0 free, 1 taken, 2 taken and waited for */
	bool held;               /* a mutex of the table: the application has it */
	uint64_t blocker;        /* the living owner last found in the way, since when, and when it is to be asked again */
	uint64_t since, ask;
};

/* The turns of a segment's shards, shared by all stacks of a domain object that have the segment open. */
struct turns {
	struct turns *next;
	uint64_t id;
	uint32_t count, users;
	struct turn turn[];
};

/* A mapped segment, listed in the region. Shared by all who attach it. */
struct segment {
	void *base;              /* never changes while anybody holds it */
	size_t size;
	uint64_t id;
	uint32_t kind, users;
	bool gone;               /* left behind by a fork: there is no mapping in this process */
	bool late;               /* somebody has closed it whose older views may still be read: zeros take its place */
	struct segment *next;
};

enum { COUNT_STRIPES = 64 };
struct stripe { /* counters of the thread that owns the stripe; stripe 0 is everybody else's */
	_Alignas(64) _Atomic(uint64_t) counter[32];
};

struct domain {
	/* What every operation reads. */
	_Atomic(uint32_t) fate;          /* FLAGSTONE_OK, or why every operation is refused from now on */
	_Atomic(uint32_t) busy;          /* see busy() */
	struct FS_ControlHeader *header;
	struct FS_Region *own;           /* NULL: a reader without a region */
	uint64_t token;                  /* {generation, region + 1} as in lock words, without flags; 0 for a reader */
	uint32_t region, generation;
	_Atomic(uint32_t) life;          /* grows with each reattach: what was attached in an earlier life is gone */
	bool read;
	uint64_t hash_seed;
	uint64_t uuid[2];
	struct control_shape shape;
	struct domain_options options;
	struct stripe *stripes;

	/* The rest is the business of the domain's own parts. */
	_Atomic(uint32_t) users;
	char *dir, *name;
	int version_fd;                  /* DIR/NAME.flagstone/vMAJOR */
	int control_fd;                  /* holds the lock bytes */
	struct domain *next;             /* of this process's domains, for the fork handler */
	struct turn exclusive;           /* in front of InitByte */
	struct turn reaping;             /* one thread reaps at a time */
	struct turn leading;             /* guards what follows from leads on */
	struct turn counting;            /* one thread publishes counters at a time */
	struct turn *mutex_turns;        /* one a mutex of the table */
	pthread_mutex_t lists;           /* guards the lists below and the region's held and mapped words */
	struct turns *turns;
	struct segment *segments;
	struct blanked *blanked;
	struct suspects *suspects;
	bool leads, leads_by_byte;
	uint64_t vacant_since, vacant_word, wanted_ignored_until;
	/* service.c */
	pthread_t service;
	bool serving;
	_Atomic(uint32_t) listening;     /* private futex word: 1 once the thread has published how it is woken */
	_Atomic(uint32_t) stop;
	_Atomic(uint32_t) heard;         /* the application's reasons that nobody has taken yet */
	_Atomic(uint32_t) news;          /* private futex word, moves with heard */
	uint64_t counted[32];            /* counters when the region was claimed */
	unsigned char header_seen[160];  /* the header's fields as they were checked, with their checksum */
	struct identity self;            /* as the region tells it */
	uint64_t joined;
};

/* Opens, or makes, and joins a domain. The caller is its first user. */
static flagstone_status domain_open(const char *dir, const char *name, const struct domain_options *options, struct domain **made);
static void domain_hold(struct domain *d);
static void domain_release(struct domain *d);      /* leaves and frees with the last user; let go of segments and turns before */
static flagstone_status domain_destroy(const char *dir, const char *name, uint32_t patience);
static flagstone_status domain_list(const char *dir, bool (*each)(void *context, const char *name), void *context);
/* unused: also domains in order that nobody has open. */
static flagstone_status domain_collect(const char *dir, bool unused, uint64_t *removed);
/* In a forked child: joins again with a region of one's own. OK without doing anything if the domain is whole. d->life tells a user
 * whose mappings were made in an earlier life: it has to attach all anew (and is FLAGSTONE_FORKED until then). */
static flagstone_status domain_reattach(struct domain *d);

/* Why operations are refused (forked, destroyed, lost, fault, closed), with its text. Look before an operation AND after it, before its
 * answer is believed: a fault in a mapping leaves zeros in its place, and says so here before anybody can read them. */
static flagstone_status domain_refuse(struct domain *d);
static inline flagstone_status domain_ready(struct domain *d)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (likely(atomic_load_explicit(&d->fate, memory_order_acquire) == FLAGSTONE_OK) &&
	    likely(atomic_load_explicit(&d->header->Ready, memory_order_relaxed) != FS_ControlDestroyed))
		return FLAGSTONE_OK;
	return domain_refuse(d);
}
/* For whoever writes: FLAGSTONE_READONLY for a reader. */
static flagstone_status domain_writable(struct domain *d);

/* --- Time and counters (section 18) --- */

/* At the beginning of every operation: keeps the clock words going; advances them at once if this process was idle. */
static void busy_begin(struct domain *d);
static inline void busy(struct domain *d)
{
	if (unlikely(atomic_load_explicit(&d->busy, memory_order_relaxed) != 1))
		busy_begin(d);
}
static void clock_advance(struct domain *d);       /* at once */
static uint64_t clock_wall_own(void);
static inline uint64_t clock_wall(struct domain *d) /* a reader judges by its own clock */
{
	return likely(!d->read) ? atomic_load(&d->header->WallClock) : clock_wall_own();
}
static uint64_t clock_domain_own(void);
static inline uint64_t clock_domain(struct domain *d)
{
	return likely(!d->read) ? atomic_load(&d->header->DomainClock) : clock_domain_own();
}

/* Adds to one of the region's counters (FS_Counter...). Cheap: a relaxed add to a word of the thread's own. */
static _Thread_local uint32_t count_stripe;         /* 0 until the thread has one */
static void count_slow(struct domain *d, uint32_t counter, uint64_t n);
static inline void count(struct domain *d, uint32_t counter, uint64_t n)
{
	uint32_t stripe = count_stripe;
	if (unlikely(stripe == 0)) {
		count_slow(d, counter, n);
		return;
	}
	_Atomic(uint64_t) *word = &d->stripes[stripe].counter[counter];
	atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + n, memory_order_relaxed);
}
static void counters_total(struct domain *d, uint64_t counters[32]); /* of all that are and were */

/* --- lock.c (section 12) --- */

/* What locks are made of. The turn belongs to this process: lock_take waits for it and lock_give gives it back, from any thread. */
struct lock {
	_Atomic(uint64_t) *word;
	_Atomic(uint32_t) *futex;
	struct turn *turn;
};

/* Turns of the shards of a segment, the same for all of this domain object. NULL: no memory. */
static struct turns *turns_get(struct domain *d, uint64_t id, uint32_t count);
static void turns_put(struct domain *d, struct turns *turns);

/* *repair: INCONSISTENT was found or comes from stealing; repair first. FLAGSTONE_BUSY after the deadline, FLAGSTONE_READONLY, fates. */
static flagstone_status lock_take(struct domain *d, struct lock lock, uint64_t deadline, bool *repair);
/* Once, without waiting. steal: take it from the dead too. FLAGSTONE_BUSY without a text. */
static flagstone_status lock_try(struct domain *d, struct lock lock, bool steal, bool *repair);
/* broken: leave INCONSISTENT. FLAGSTONE_LOST if the word names another: the domain object is unusable from then on. */
static flagstone_status lock_give(struct domain *d, struct lock lock, bool broken);
static bool turn_take(struct turn *turn, uint64_t deadline); /* a plain mutex with a deadline, UINT64_MAX for none */
static void turn_give(struct turn *turn);

/* Is the owner of a lock word or claim dead? Flags are ignored; one's own token and 0 are never dead. */
static bool token_dead(struct domain *d, uint64_t token);

/* Mutexes of the table, listed in the region. */
static flagstone_status mutex_lock(struct domain *d, uint32_t id, uint64_t deadline, bool *repair);
static flagstone_status mutex_unlock(struct domain *d, uint32_t id, bool broken);

/* Exclusive: InitByte, for this process's threads one at a time. Not nested. */
static flagstone_status exclusive_begin(struct domain *d, uint64_t deadline);
static void exclusive_end(struct domain *d);

/* --- doorbell.c, service.c (section 11) --- */

static inline uint64_t changes(struct domain *d) { return atomic_load(&d->header->Changes); }
static void changed(struct domain *d);             /* adds 1 to Changes and rings every region */
static void acknowledge(struct domain *d, uint64_t changes); /* a view of that value is in use */
static flagstone_status ring(struct domain *d, uint32_t region, uint64_t reasons);
static uint32_t heard(struct domain *d, uint32_t mask);     /* takes those of the application's reasons */
static flagstone_status heard_await(struct domain *d, uint32_t bit, uint64_t deadline);

/* --- region.c, steward.c (sections 7, 9) --- */

static flagstone_status peers_each(struct domain *d, bool (*each)(void *context, const flagstone_peer *peer), void *context);
static uint64_t reap_dead(struct domain *d);       /* how many regions */
static flagstone_status state_flags(struct domain *d, uint32_t flags);
static bool steward_who(struct domain *d, uint32_t *region);
static bool steward_lead(struct domain *d);        /* false: another leads */
static bool steward_leads(struct domain *d);
static bool steward_resign(struct domain *d);      /* false: it did not lead */

/* --- directory.c (section 10) --- */

struct entry { /* a copy of a directory entry, consistent in itself */
	uint32_t number;         /* in the directory */
	uint64_t word;           /* State as it was */
	uint32_t generation, state;
	uint16_t drains;         /* from ACTIVE on */
	uint32_t kind, tier, mutex;
	uint64_t id, size, stack, creator, created;
	uint64_t params[4];
	unsigned char name[32];
	size_t name_length;
};

static inline _Atomic(uint64_t) *entry_state(struct domain *d, uint32_t number)
{
	unsigned char *base = (unsigned char *)d->header + d->shape.entry_offset;
	return &((struct FS_Entry *)(void *)(base + (uint64_t)number * FS_SizeEntry))->State;
}
/* false: it is FREE, or would not stand still. number is below d->shape.entries. */
static bool entry_read(struct domain *d, uint32_t number, struct entry *entry);
static inline bool entry_published(const struct entry *entry)
{
	return entry->state >= FS_EntryActive && entry->state <= FS_EntryDraining;
}
/* Does the segment take records? OPEN in the generation of the copy, looked at now. */
static inline bool entry_takes(struct domain *d, const struct entry *entry)
{
	uint64_t word = atomic_load(entry_state(d, entry->number));
	return (word & FS_EntryStateMask) == FS_EntryOpen && word >> FS_StateGenerationShift == entry->generation;
}

/* Makes a segment of `wanted`: kind, tier, stack (0 for a slab: its own id), size, name, params are read from it. fill gets the zeroed
 * mapping and the new segment's id (write READY last), and its status fails the whole. *wanted is the entry as published. */
typedef flagstone_status (*segment_fill)(void *context, void *base, size_t size, uint64_t id);
static flagstone_status publish(struct domain *d, struct entry *wanted, segment_fill fill, void *context);

/* Lists and maps a published segment, shared, checked against the entry: id, size, owner, mode. FLAGSTONE_RETIRED if it has gone
 * meanwhile, FLAGSTONE_UNATTACHED, FLAGSTONE_TOOMANYMAPPED, ... Two attachments of one id are one mapping. A reader's is read-only. */
static flagstone_status segment_attach(struct domain *d, const struct entry *entry, struct segment **attached);
/* Unmaps with the last user, and sees to what is RETIRED. */
static void segment_detach(struct domain *d, struct segment *segment);
/* Closing a slab, steps 3 and 4: with the last user zeros take the mapping's place (private, writable: late stamps go nowhere) and
 * stay until the domain object is released; the segment is off the list at once. */
static void segment_blank(struct domain *d, struct segment *segment);

static flagstone_status entry_open(struct domain *d, uint32_t number, uint64_t word);  /* ACTIVE to OPEN; OPEN already is OK */
/* To DRAINING, or the drain under way; *word names the drain for the two below. generation as in the view. FLAGSTONE_STATE, FLAGSTONE_RETIRED. */
static flagstone_status entry_drain(struct domain *d, uint32_t number, uint32_t generation, uint64_t *word);
static flagstone_status entry_reopen(struct domain *d, uint32_t number, uint64_t word);  /* FLAGSTONE_STATE: that drain is over */
static flagstone_status entry_retire(struct domain *d, uint32_t number, uint64_t word);  /* and finishes it; FLAGSTONE_STATE */
static void entries_finish(struct domain *d);      /* opens ACTIVE ones of the dead, finishes RETIRED ones */

/* --- repair.c: checks and mends of the control segment (section 19) --- */

static void control_check(struct domain *d, bool (*each)(void *context, const char *text), void *context);
static flagstone_status control_repair(struct domain *d, uint64_t *mended);

/* --- Among the domain's parts --- */

static void entries_of_dead(struct domain *d, uint32_t region);
static void entries_open_active(struct domain *d);
static flagstone_status domain_look(struct domain *d); /* refuses a domain whose path leads elsewhere */
static void fork_install(void);

/* --- What the domain calls of what stands above it --- */

/* view.c: every stack of the domain object makes a new view if `Changes` has moved, and closes what it leaves out. The service thread
 * calls it when it finds `Changes` moved, and once a second. Must not wait for long. */
static void stacks_look(struct domain *d);
/* view.c: checks a slab's first page against its entry (for a mapped segment) and says where the lock words of its shards are. */
static flagstone_status slab_locks(const struct segment *segment, const struct entry *entry, uint32_t *shards, uint64_t *offset, uint64_t *stride);
/* duties.c: called about every 100 ms while this handle leads with options.steward. */
static void duties_round(struct domain *d);

#endif
