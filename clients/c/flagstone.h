/*
 * Flagstone: a cache in shared memory. The processes of one host share slabs, hash tables in files that they map, without a
 * server; any of them may be stopped or killed at any instruction. The protocol is spec/PROTOCOL.md.
 *
 * Rules that hold for every function, unless its comment says otherwise:
 *
 * Ownership. Whatever is passed in stays the caller's and is not kept. Values are copied into buffers of the caller. What a
 * callback is given is valid until it returns.
 *
 * Threads. Every function may be called by any number of threads at once with one handle, but for flagstone_close and
 * flagstone_reattach, which want the handle for themselves. Callbacks run on the calling thread and without a lock, so
 * that they may call anything. Nothing here may be called from a signal handler.
 *
 * Results. FLAGSTONE_OK is done, FLAGSTONE_NO a negative answer: there is no such record, or the condition did not hold, and
 * nothing was changed. Everything else is an error; flagstone_error_text says what failed, with names and values. Results
 * are stored through pointers only where it says so, on FLAGSTONE_OK if nothing else is said; a pointer for a result may be NULL.
 *
 * Cost. Lookups take no lock and wait for nobody. Writes take the lock of the key's column, one of up to 256, for a microsecond.
 * "Looks at all cells" is some milliseconds for a million records, with no lock held for longer than some microseconds.
 *
 * Peers. A peer that dies costs others a bounded wait for the lock that it held and the rebuild of one column. One that is
 * stopped keeps its lock: writers of that column get FLAGSTONE_BUSY when their patience ends. Lookups notice neither.
 *
 * Process. Each domain that is opened has a thread, which takes no signals. Opening the first installs a handler for SIGBUS, which turns a file
 * cut short under its mapping into FLAGSTONE_FAULT and passes everything else on to the handler of before: a program that sets one later
 * has it instead. A handle woken by a signal installs a handler for that, unless the program has one. There is a pthread_atfork handler.
 *
 * Fork. A handle is its process's alone. In a child that was forked without exec every call with it is FLAGSTONE_FORKED until
 * flagstone_reattach or flagstone_close.
 */
#ifndef FLAGSTONE_H
#define FLAGSTONE_H

#define FLAGSTONE_RELEASE "1.0.0"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a call comes to. The errors are those of section 21 of the protocol, and two of this client's; each has a remedy of its own. */
typedef enum flagstone_status {
	FLAGSTONE_OK = 0,
	FLAGSTONE_NO = 1,       /* a negative answer, nothing was changed */
	FLAGSTONE_BUSY,         /* a lock or a peer was in the way for longer than the patience: try again */
	FLAGSTONE_FULL,         /* no room, where nothing may be evicted */
	FLAGSTONE_KEYTOOLONG,   /* the key to be stored is longer than the slab's limit; to a lookup it is a miss */
	FLAGSTONE_VALUETOOLONG, /* the value is longer than the slab's limit */
	FLAGSTONE_TOOLARGE,     /* key and value together do not fit */
	FLAGSTONE_NOTCOUNTER,   /* the value is not one of 8 bytes */
	FLAGSTONE_OVERFLOW,     /* the sum does not fit into 64 bits */
	FLAGSTONE_CLAIMLOST,    /* the key was set, deleted or taken over meanwhile: do not store */
	FLAGSTONE_CORRUPT,      /* shared words contradict each other, also after a rebuild */
	FLAGSTONE_CLOSED,       /* the handle is closed */
	FLAGSTONE_FORKED,       /* the handle belongs to the parent process */
	FLAGSTONE_DESTROYED,    /* the domain was destroyed: open it again */
	FLAGSTONE_LOST,         /* the handle was taken for dead or its words overwritten: close it and open again */
	FLAGSTONE_NOTFOUND,     /* there is no such domain or file, and none is to be made */
	FLAGSTONE_NOREGION,     /* all regions are taken: too many peers */
	FLAGSTONE_NOENTRY,      /* the directory is full: too many segments */
	FLAGSTONE_NOMUTEX,      /* there is no mutex of that number */
	FLAGSTONE_NOSPACE,      /* the file system is full */
	FLAGSTONE_NOMEMORY,     /* the process has no memory left */
	FLAGSTONE_NODESCRIPTOR, /* the process or the system has no descriptors left */
	FLAGSTONE_ACCESS,       /* the caller may not do that to the files */
	FLAGSTONE_FILESYSTEM,   /* the file system cannot do what is needed */
	FLAGSTONE_LOCKS,        /* open file description locks do not work here */
	FLAGSTONE_MISSING,      /* the system lacks a call that is needed */
	FLAGSTONE_FAULT,        /* a mapping could not be read: its file was cut short, or memory failed */
	FLAGSTONE_STALEBOOT,    /* the domain was made before the last boot: destroy it */
	FLAGSTONE_READONLY,     /* the handle was opened for reading */
	FLAGSTONE_OPTIONS,      /* impossible options or arguments */
	FLAGSTONE_MAGIC,        /* not a file of this kind */
	FLAGSTONE_ENDIAN,       /* made by a machine of another byte order */
	FLAGSTONE_VERSION,      /* of another major version */
	FLAGSTONE_FEATURE,      /* has a feature that this client does not know */
	FLAGSTONE_FINGERPRINT,  /* of another layout */
	FLAGSTONE_CHECKSUM,     /* a header's checksum is wrong */
	FLAGSTONE_GEOMETRY,     /* a header's numbers contradict each other */
	FLAGSTONE_TRUNCATED,    /* a file is shorter than its header says */
	FLAGSTONE_OVERSIZED,    /* a file is longer than its header says */
	FLAGSTONE_FOREIGN,      /* a segment of another domain or with another id */
	FLAGSTONE_NOTREADY,     /* a file that nobody has finished making */
	FLAGSTONE_UNSAFE,       /* a directory or file of another user, or open to others */
	FLAGSTONE_UNATTACHED,   /* a slab of the stack cannot be attached: a miss could not be believed */
	FLAGSTONE_NOSLAB,       /* there is no slab of that name or number */
	FLAGSTONE_SLABEXISTS,   /* there is a slab of that name */
	FLAGSTONE_NOTHELD,      /* the lock is not held */
	FLAGSTONE_TOOMANYHELD,  /* the region has no room to list one more mutex */
	FLAGSTONE_TOOMANYMAPPED,/* the region has no room to list one more segment */
	FLAGSTONE_RETIRED,      /* the slab was retired */
	FLAGSTONE_STATE,        /* a directory entry has moved on meanwhile */
	FLAGSTONE_EXPIRY,       /* a time to live or expiry out of range */
	FLAGSTONE_UNSUPPORTED,  /* not with this handle or on this system */
	FLAGSTONE_BUFFER,       /* the caller's buffer is too small; the length that is needed was stored */
	FLAGSTONE_FAILED,       /* the computation of the value failed: the loader's error, here or in another process */
	FLAGSTONE_STATUSES      /* how many there are */
} flagstone_status;

/* The name of a status in lower case, as in section 21 ("busy"); "ok" and "no" for the first two. Never NULL. */
const char *flagstone_status_name(flagstone_status status);

/* What the last call of this thread that failed had to say, with the failed step, names and values. Valid until the
 * thread's next call of any function here; never NULL. */
const char *flagstone_error_text(void);

/* A handle: a domain and one stack of slabs in it. */
typedef struct flagstone flagstone;

/* --- Beginning and end --- */

enum flagstone_order { FLAGSTONE_LRU = 1, FLAGSTONE_S3FIFO = 2 };
enum flagstone_full { FLAGSTONE_EVICT = 0, FLAGSTONE_REFUSE = 1 };
enum flagstone_wake { FLAGSTONE_WAKE_POLL = 0, FLAGSTONE_WAKE_FUTEX = 1, FLAGSTONE_WAKE_SIGNAL = 2 };

/* Zero in every field is the default. The shape counts only for who makes the slab: in an existing one the words there hold. */
typedef struct flagstone_options {
	bool attach;            /* make nothing: what is not there is FLAGSTONE_NOTFOUND or FLAGSTONE_NOSLAB */
	bool read;              /* a reader without a region: writes nothing, is not waited for; implies attach */
	bool group;             /* share with a group: modes 0770 and 0660 */
	bool steward;           /* offer to be the steward */
	bool no_promote;        /* hits below tier 0 move nothing up */
	enum flagstone_wake wake; /* how the doorbell wakes this process */
	int wake_signal;        /* for FLAGSTONE_WAKE_SIGNAL: SIGUSR1 (also for 0), SIGUSR2, or 35 to 64 */
	uint32_t patience;      /* milliseconds to wait for locks, 5000 by default; see flagstone_patience */
	const char *slab;       /* an independent slab by that name, which must be there, instead of the primary one */
	/* the control segment, for who makes it */
	uint32_t regions;       /* most peers, 256 by default */
	/* the slab, for who makes it */
	uint64_t entries;       /* records of one cell that fit, 65536 by default */
	uint64_t bytes;         /* instead of entries: about the size of the file */
	uint32_t cell;          /* bytes of a cell, 128 by default */
	uint32_t max_key;       /* longest key, 1024 by default */
	uint32_t max_value;     /* longest value, 65536 by default; each shard keeps room free for a record of both */
	uint32_t shards;        /* a power of two, by default from the size */
	enum flagstone_order order; /* lru by default */
	enum flagstone_full full; /* evict by default */
	uint32_t precision;     /* how exactly last uses are known, 1 to 3600001 milliseconds, 1000 by default; finer costs hits a write more often */
} flagstone_options;

/* Opens the domain NAME in the directory dir (NULL: /dev/shm) and its primary slab, or that of options->slab, and makes what is
 * missing. NULL options are the defaults. The handle is the caller's, to be given to flagstone_close. Starts one thread. A peer
 * that died while making the domain costs a moment: its work is thrown away. */
flagstone_status flagstone_open(const char *dir, const char *name, const flagstone_options *options, flagstone **handle);

/* Closes a handle and frees it; the region is given up with the last handle of its domain object (see flagstone_slab). NULL is
 * nothing. No other thread may be using the handle. Waits for callbacks and locks of the process's own threads only. */
void flagstone_close(flagstone *handle);

/* Removes a domain with all its records. Its users' handles turn FLAGSTONE_DESTROYED. FLAGSTONE_NOTFOUND if there is none. */
flagstone_status flagstone_destroy(const char *dir, const char *name);

/* Calls each(context, name) for every domain of this major version in dir, sorted by bytes, until it returns false. */
flagstone_status flagstone_list(const char *dir, bool (*each)(void *context, const char *name), void *context);

/* Removes what nobody uses in dir: version directories that are unfinished, destroyed or of another boot, hidden ones, segment
 * files that no entry lists; with `unused` also domains that are in order and that nobody has open, with their records. Waits for nobody.
 * *removed is how many. */
flagstone_status flagstone_gc(const char *dir, bool unused, uint64_t *removed);

/* In a child that was forked without exec: opens the domain again with a region of the child's own, in the same handle, with the
 * options of before. FLAGSTONE_OK without doing anything in the process that opened it. Handles that share a domain object come
 * back each by its own call. On an error the handle stays FLAGSTONE_FORKED. */
flagstone_status flagstone_reattach(flagstone *handle);

/* The handle's region and generation, by which peers know it; FLAGSTONE_READONLY for a reader without a region. */
flagstone_status flagstone_region(flagstone *handle, uint32_t *region, uint32_t *generation);

/* How long calls with this handle wait for locks, from now on, in milliseconds; 0 tries once. Returns what it was. */
uint32_t flagstone_patience(flagstone *handle, uint32_t millis);

/* --- Keys --- */

/* A key: up to 64 KiB of any bytes, the application's own 64-bit hash, or bytes in a namespace. Keys of different kinds are
 * different keys. Made by the functions below; refers to the caller's bytes. */
typedef struct flagstone_key {
	const void *bytes;      /* NULL: hash is the key */
	size_t length;
	const void *space;      /* the namespace's name, NULL: none */
	size_t space_length;
	uint64_t hash;
} flagstone_key;

static inline flagstone_key flagstone_bytes(const void *bytes, size_t length)
{
	flagstone_key key = {bytes ? bytes : "", length, NULL, 0, 0};
	return key;
}

static inline flagstone_key flagstone_hash(uint64_t hash)
{
	flagstone_key key = {NULL, 0, NULL, 0, hash};
	return key;
}

static inline flagstone_key flagstone_scoped(const void *space, size_t space_length, const void *bytes, size_t length)
{
	flagstone_key key = {bytes ? bytes : "", length, space ? space : "", space_length, 0};
	return key;
}

/* --- Lookups --- */

/* Where a lookup puts what it found. The caller sets buffer and capacity; the rest is the answer. A value that does not fit is
 * FLAGSTONE_BUFFER, with everything but the bytes. flagstone_max_value says what always fits. */
typedef struct flagstone_value {
	void *buffer;           /* the caller's; NULL with capacity 0 to ask for the rest only */
	size_t capacity;
	size_t length;          /* of the value */
	uint64_t version;       /* of the record: another one for every write, the same after a move */
	uint64_t expiry;        /* wall time in milliseconds since 1970, 0 is never */
	uint32_t stale;         /* seconds beyond it for which the value may be served as stale */
	uint32_t tag;           /* the application's, 0 is none */
	uint32_t tier;          /* where it was found */
	bool expired;           /* a stale value */
	flagstone_status status; /* in batches: the answer for this key */
} flagstone_value;

/* The longest value that may be set with this handle; 0 for a closed one. */
size_t flagstone_max_value(flagstone *handle);

/* Looks a key up. FLAGSTONE_NO is a miss, a certain one. value may be NULL. Counts as a use of the record. */
flagstone_status flagstone_get(flagstone *handle, flagstone_key key, flagstone_value *value);

/* The same, without being a use of the record. */
flagstone_status flagstone_peek(flagstone *handle, flagstone_key key, flagstone_value *value);

/* The same as flagstone_get, but an expired record is a hit until its stale seconds are over; value->expired tells. */
flagstone_status flagstone_stale(flagstone *handle, flagstone_key key, flagstone_value *value);

/* Looks count keys up, asking for the memory of many at once; each answer is in values[i].status, each with a buffer of its own.
 * The result is the first error, FLAGSTONE_OK if there is none: hits, misses and FLAGSTONE_BUFFER are none. */
flagstone_status flagstone_batch(flagstone *handle, const flagstone_key *keys, flagstone_value *values, size_t count);

/* --- Writing --- */

/* How a record is written; NULL or zeros: without an expiry, without a tag, to tier 0. */
typedef struct flagstone_write {
	uint64_t ttl;           /* milliseconds to live from now, 0: as expiry says */
	uint64_t expiry;        /* wall time in milliseconds since 1970, 0 is never */
	uint32_t stale;         /* seconds beyond expiry for which it may be served as stale, up to 65535 */
	uint32_t tag;           /* the application's, 0 is none */
	uint32_t tier;          /* the number of the tier to write to */
} flagstone_write;

/* Stores a value. When it has returned every lookup that starts afterwards finds this value or a newer one. *version is the
 * record's. FLAGSTONE_FULL, and the errors of lengths: nothing was changed but that a claim on the key is ended. */
flagstone_status flagstone_set(flagstone *handle, flagstone_key key, const void *value, size_t length, const flagstone_write *write,
                               uint64_t *version);

/* Stores it if there is no value; an expired one is none. Otherwise FLAGSTONE_NO. */
flagstone_status flagstone_add(flagstone *handle, flagstone_key key, const void *value, size_t length, const flagstone_write *write,
                               uint64_t *version);

/* Stores it if there is a value that has not expired. Otherwise FLAGSTONE_NO. */
flagstone_status flagstone_replace(flagstone *handle, flagstone_key key, const void *value, size_t length, const flagstone_write *write,
                                   uint64_t *version);

/* Stores it if there is a value of the version `expected`, as lookups return it. Otherwise FLAGSTONE_NO. No ABA: versions differ. */
flagstone_status flagstone_cas(flagstone *handle, flagstone_key key, uint64_t expected, const void *value, size_t length,
                               const flagstone_write *write, uint64_t *version);

/* Deletes. When it has returned no lookup that starts afterwards finds what was there. FLAGSTONE_NO if there was nothing. A claim on
 * the key is ended in any case. */
flagstone_status flagstone_del(flagstone *handle, flagstone_key key);

/* Adds delta to a counter, a value of 8 bytes, little-endian and signed, keeping its expiry, stale seconds and tag. Where there is none it
 * begins with initial, written as `write` says. *sum is the new value. */
flagstone_status flagstone_incr(flagstone *handle, flagstone_key key, int64_t delta, int64_t initial, const flagstone_write *write,
                                int64_t *sum);

/* Gives a value another expiry (wall time in milliseconds, 0 is never), keeping stale seconds and version. A use of the record. */
flagstone_status flagstone_touch(flagstone *handle, flagstone_key key, uint64_t expiry);

/* --- Claims: of all that miss a key one computes its value --- */

typedef enum flagstone_claimed {
	FLAGSTONE_CLAIM_MINE,   /* the caller is to compute the value, and to call fill, release or fail */
	FLAGSTONE_CLAIM_VALUE,  /* there is a value, stored in *value */
	FLAGSTONE_CLAIM_HELD,   /* another computes it */
	FLAGSTONE_CLAIM_FAILED, /* a computation failed lately: its text is in *value */
	FLAGSTONE_CLAIM_NOROOM  /* no room for a claim: compute, do not store */
} flagstone_claimed;

/* Claims a key for so many milliseconds; if the caller dies or is later, others take the claim over. *outcome says what came
 * of it. value->version is the claim's name where it is FLAGSTONE_CLAIM_MINE. Waits for no other's computation. */
flagstone_status flagstone_claim(flagstone *handle, flagstone_key key, uint64_t millis, flagstone_claimed *outcome, flagstone_value *value);

/* Stores the value computed under a claim and ends it; FLAGSTONE_CLAIMLOST: the key was set, deleted or taken over, nothing is stored. */
flagstone_status flagstone_fill(flagstone *handle, flagstone_key key, uint64_t claim, const void *value, size_t length,
                                const flagstone_write *write, uint64_t *version);

/* Ends a claim without a value. */
flagstone_status flagstone_release(flagstone *handle, flagstone_key key, uint64_t claim);

/* Ends a claim with an error: those who wait get the text, and until the wall time `until` (0: not) everybody who claims. */
flagstone_status flagstone_fail(flagstone *handle, flagstone_key key, uint64_t claim, const void *text, size_t length, uint64_t until);

/* Computes a value into a buffer of so many bytes and stores its length; *write is zeros, for expiry and tag. FLAGSTONE_OK is a
 * value, everything else is an error, for whose text the buffer may be used. */
typedef flagstone_status (*flagstone_loader)(void *context, flagstone_key key, void *buffer, size_t capacity, size_t *length,
                                             flagstone_write *write);

/* Looks a key up and, if it misses, lets one process compute the value, within millis; all others that miss wait for that one, or are
 * given an expired value where it may be served as stale. value->buffer must hold the value. FLAGSTONE_FAILED: the loader failed, here or
 * elsewhere, and its text is in *value. If the process that computes dies, one that waits takes over at once. A value whose claim was
 * lost is returned and not stored. */
flagstone_status flagstone_load(flagstone *handle, flagstone_key key, uint64_t millis, flagstone_loader loader, void *context,
                                flagstone_value *value);

/* --- Many records --- */

/* Removes all records in a namespace: from when it has returned nobody finds them. FLAGSTONE_NO if there was no such namespace. Takes
 * as long as a delete. */
flagstone_status flagstone_clear_namespace(flagstone *handle, const void *space, size_t space_length);

/* Removes every record that was there when it was called. Looks at all cells. *removed is how many. */
flagstone_status flagstone_clear(flagstone *handle, uint64_t *removed);

/* A record as a scan or a dump tells of it. */
typedef struct flagstone_record {
	const void *key;        /* the stored bytes: of a scoped key its id's 8 bytes come first */
	size_t key_length;
	const void *value;
	size_t value_length;
	uint64_t version;
	uint64_t expiry;
	uint32_t stale;
	uint32_t tag;
	uint32_t flags;         /* the record's flags, section 6 */
	uint32_t tier;
	uint64_t stamp;         /* last use, domain time in milliseconds */
	uint32_t count;         /* use count of the s3fifo order */
	bool small;             /* stands in the small queue */
	uint32_t shard;
} flagstone_record;

typedef bool (*flagstone_visit)(void *context, const flagstone_record *record);

/* Calls visit for every record that has not expired until it returns false: each that stays during the whole scan exactly once.
 * Namespaces' ids and claims are left out. Without locks, but where a column does not stand still. */
flagstone_status flagstone_scan(flagstone *handle, flagstone_visit visit, void *context);

/* Removes up to `limit` records that were not used since `cutoff`, domain time in milliseconds (flagstone_now), the oldest first. Looks
 * at all cells. *removed is how many. */
flagstone_status flagstone_evict(flagstone *handle, uint64_t cutoff, uint64_t limit, uint64_t *removed);

/* Removes every record with that tag, which is not 0. Looks at all cells. */
flagstone_status flagstone_evict_tag(flagstone *handle, uint32_t tag, uint64_t *removed);

/* Removes up to `limit` records near the key's hash: those of its chain first, then the oldest of all. */
flagstone_status flagstone_evict_near(flagstone *handle, flagstone_key key, uint64_t limit, uint64_t *removed);

/* --- Peers --- */

typedef struct flagstone_peer {
	uint32_t region;
	uint32_t generation;
	uint32_t pid;           /* in its pid namespace */
	uint32_t mode;          /* of waking: enum flagstone_wake */
	uint32_t flags;         /* the application's */
	uint64_t acknowledged;  /* the `Changes` of its newest view */
	bool alive;
	bool claimed;           /* false: being cleaned up */
} flagstone_peer;

/* Calls each for every region that is not free until it returns false. */
flagstone_status flagstone_peers(flagstone *handle, bool (*each)(void *context, const flagstone_peer *peer), void *context);

/* Cleans up after the dead; *reaped is how many regions. A steward does so by itself, and whoever finds no free region. */
flagstone_status flagstone_reap(flagstone *handle, uint64_t *reaped);

/* Stores the application's 32 state flags of this handle's region, for peers to see. */
flagstone_status flagstone_flags(flagstone *handle, uint32_t flags);

/* Leaves the application's reason `bit` (0 to 31) at a region's doorbell and wakes it. FLAGSTONE_STATE: nobody has the region. */
flagstone_status flagstone_ring(flagstone *handle, uint32_t region, uint32_t bit);

/* Takes the application's reasons that came since the last call, bit by bit, and the `Changes` of the newest view. */
flagstone_status flagstone_heard(flagstone *handle, uint32_t *reasons, uint64_t *changes);

/* Waits, asleep, until the reason `bit` has come, and takes it. FLAGSTONE_BUSY after so many milliseconds. */
flagstone_status flagstone_await(flagstone *handle, uint32_t bit, uint32_t millis);

/* --- Segments and locks --- */

typedef struct flagstone_entry {
	const char *state;      /* "creating", "active", "open", "draining" or "retired" */
	uint32_t kind;
	uint32_t tier;
	uint64_t segment;
	uint64_t stack;
	uint64_t size;
	unsigned char name[32];
	size_t name_length;
} flagstone_entry;

/* Calls each for every directory entry that is not free, in their order, until it returns false. */
flagstone_status flagstone_entries(flagstone *handle, bool (*each)(void *context, const flagstone_entry *entry), void *context);

/* Takes mutex `id` of the domain's table, waiting for as long as the patience; excludes threads and processes. *repair: the one who
 * held it died or gave it back broken, what it guards is to be repaired first. A process that dies gives its mutexes back so. */
flagstone_status flagstone_lock(flagstone *handle, uint32_t id, bool *repair);

/* Gives a mutex back, from any thread. broken: what it guards is not repaired. FLAGSTONE_NOTHELD. */
flagstone_status flagstone_unlock(flagstone *handle, uint32_t id, bool broken);

/* Takes the lock of the column of a key, and keeps it until flagstone_drop. Meanwhile the thread may look up, and nothing else. */
flagstone_status flagstone_hold(flagstone *handle, flagstone_key key);
flagstone_status flagstone_drop(flagstone *handle);

/* --- Tiers and slabs --- */

/* The region that is the steward; FLAGSTONE_NO if there is none. */
flagstone_status flagstone_steward(flagstone *handle, uint32_t *region);

/* Becomes the steward without duties of its own; FLAGSTONE_NO if another is. flagstone_resign: FLAGSTONE_NO if it is not this handle. */
flagstone_status flagstone_lead(flagstone *handle);
flagstone_status flagstone_resign(flagstone *handle);

/* Adds a tier of about `bytes` bytes at the end of the stack, shaped as tier 0 in everything else; its name, of up to 32 bytes, informs. */
flagstone_status flagstone_grow(flagstone *handle, const char *name, uint64_t bytes, uint64_t *segment);

/* Moves the records of a tier below 0 to the others and retires it; *moved is how many. FLAGSTONE_FULL: no room, the tier takes records
 * again. If the caller dies anybody may go on. */
flagstone_status flagstone_drain(flagstone *handle, uint32_t tier, uint64_t *moved);

/* Moves up to `limit` records last used before `cutoff` from one tier to another, while there is room. */
flagstone_status flagstone_age(flagstone *handle, uint32_t from, uint32_t to, uint64_t cutoff, uint64_t limit, uint64_t *moved);

/* Makes the independent slab of that name, of about `bytes` bytes, shaped as `shape` says, whose size is left out of account, or with
 * NULL as the primary slab. FLAGSTONE_SLABEXISTS if there is one. */
flagstone_status flagstone_make_slab(flagstone *handle, const char *name, uint64_t bytes, const flagstone_options *shape, uint64_t *segment);

/* Opens an independent slab, or with NULL the primary one, as another handle that shares the region and thread of this one. It is
 * to be closed too, in any order. */
flagstone_status flagstone_slab(flagstone *handle, const char *name, flagstone **slab);

/* Takes an independent slab out of the domain with all its records. Handles of it turn FLAGSTONE_RETIRED. */
flagstone_status flagstone_retire(flagstone *handle, const char *name);

/* Moves up to `limit` records from one independent slab to another; NULL is the primary one. Who looks into `from` and then
 * into `to` misses nothing meanwhile. A death leaves up to 64 records in both. */
flagstone_status flagstone_move(flagstone *handle, const char *from, const char *to, uint64_t limit, uint64_t *moved);

/* Makes a segment of the application's: a file of zeros, `fill` having been called with its mapping (it may be NULL). */
flagstone_status flagstone_publish(flagstone *handle, const char *name, uint64_t bytes,
                                   flagstone_status (*fill)(void *context, void *memory, size_t bytes), void *context, uint64_t *segment);

/* Makes a new view if the directory has changed; *tiers is how many tiers it has. */
flagstone_status flagstone_refresh(flagstone *handle, uint32_t *tiers);

/* --- Looking --- */

/* The domain's clock words, advanced first: wall time since 1970 and domain time, in milliseconds. */
flagstone_status flagstone_now(flagstone *handle, uint64_t *wall, uint64_t *domain);

typedef struct flagstone_stat {
	uint32_t tier;
	uint64_t segment;
	uint64_t records;
	uint64_t cells;         /* in use */
	uint64_t bytes;         /* of keys and values */
	uint64_t sets, deletes, evicted_full, evicted_cutoff, evicted_tag, cleared, expired, moved_in, moved_out, rebuilds, steals, dropped;
	uint64_t capacity;      /* records of one cell that fit */
	uint64_t file_size;
} flagstone_stat;

/* Calls each for every tier with the sums over its shards, until it returns false. */
flagstone_status flagstone_stats(flagstone *handle, bool (*each)(void *context, const flagstone_stat *stat), void *context);

/* The counters of all regions that were and are, by section 3's numbers, up to `count` of 32. */
flagstone_status flagstone_counters(flagstone *handle, uint64_t *counters, size_t count);

typedef struct flagstone_shard {
	uint32_t tier, shard, live, used, small;
	uint64_t sequence, turn;
} flagstone_shard;

/* Calls shard for every shard and then record for each of its records in their order, ids, claims and the expired too; each column as it
 * is under its lock, which is not held while they are called. Ends when one returns false. */
flagstone_status flagstone_dump(flagstone *handle, bool (*shard)(void *context, const flagstone_shard *shard), flagstone_visit record,
                                void *context);

/* Calls each with a text for everything that contradicts itself, in the control segment and in every column, under its lock. */
flagstone_status flagstone_check(flagstone *handle, bool (*each)(void *context, const char *text), void *context);

/* Makes every column anew from its cells, under its lock. */
flagstone_status flagstone_rebuild(flagstone *handle);

/* Puts the control segment right and rebuilds every column; *mended is how many things were put right. */
flagstone_status flagstone_repair(flagstone *handle, uint64_t *mended);

#ifdef __cplusplus
}
#endif

#endif
