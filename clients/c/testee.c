/*
 * The testee of the C client: the line protocol of conformance/README.md around flagstone.h, one function a command.
 */
#include "flagstone.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TESTEE_LAYOUT "1 0 ef267ec975133f5f"
#define DEFAULT_WAIT 5000

static flagstone *handle;

/* --- Memory that lasts as long as a command --- */

typedef struct piece {
	struct piece *next;
	max_align_t bytes[];
} piece;

static piece *pieces;

static void *take(size_t n)
{
	piece *p = malloc(sizeof *p + n + 1);
	if (!p)
		abort();
	p->next = pieces;
	pieces = p;
	return p->bytes;
}

static void give_all(void)
{
	while (pieces) {
		piece *next = pieces->next;
		free(pieces);
		pieces = next;
	}
}

/* --- What a command answers --- */

/* Rows are kept until their number is known. */
typedef struct rows {
	char **line;
	size_t count, room;
} rows;

typedef struct text {
	char *bytes;
	size_t length, room;
} text;

static void text_add(text *t, const char *s, size_t n)
{
	if (t->length + n + 1 > t->room) {
		t->room = 2 * t->room + n + 64;
		t->bytes = realloc(t->bytes, t->room);
		if (!t->bytes)
			abort();
	}
	memcpy(t->bytes + t->length, s, n);
	t->length += n;
	t->bytes[t->length] = 0;
}

static void text_string(text *t, const char *s)
{
	text_add(t, s, strlen(s));
}

static void text_number(text *t, uint64_t n)
{
	char s[32];
	snprintf(s, sizeof s, " %" PRIu64, n);
	text_string(t, s);
}

static void text_id(text *t, uint64_t id)
{
	char s[32];
	snprintf(s, sizeof s, " %016" PRIx64, id);
	text_string(t, s);
}

static void text_bytes(text *t, const void *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *p = bytes;
	if (n == 0)
		text_add(t, "-", 1);
	for (size_t i = 0; i < n; i++) {
		char two[2] = {digits[p[i] >> 4], digits[p[i] & 15]};
		text_add(t, two, 2);
	}
}

static void rows_add(rows *r, text *t)
{
	if (r->count == r->room) {
		r->room = 2 * r->room + 16;
		r->line = realloc(r->line, r->room * sizeof *r->line);
		if (!r->line)
			abort();
	}
	r->line[r->count++] = t->bytes;
}

static void answer_rows(rows *r)
{
	printf("ok %zu\n", r->count);
	for (size_t i = 0; i < r->count; i++) {
		puts(r->line[i]);
		free(r->line[i]);
	}
	free(r->line);
}

/* Answers everything but FLAGSTONE_OK; true if that is left. */
static bool answered(flagstone_status status)
{
	if (status == FLAGSTONE_OK)
		return false;
	if (status == FLAGSTONE_NO)
		puts("no");
	else
		printf("err %s %s\n", flagstone_status_name(status), flagstone_error_text());
	return true;
}

static void answer(flagstone_status status)
{
	if (!answered(status))
		puts("ok");
}

static void answer_number(flagstone_status status, uint64_t n)
{
	if (!answered(status))
		printf("ok %" PRIu64 "\n", n);
}

static void answer_id(flagstone_status status, uint64_t id)
{
	if (!answered(status))
		printf("ok %016" PRIx64 "\n", id);
}

static void answer_rows_or(flagstone_status status, rows *r)
{
	if (answered(status)) {
		for (size_t i = 0; i < r->count; i++)
			free(r->line[i]);
		free(r->line);
	} else {
		answer_rows(r);
	}
}

/* --- What a command is given --- */

typedef struct command {
	size_t count;
	char **words;           /* the words after the command's own */
	bool bad;               /* a word could not be understood */
	/* options */
	uint64_t wait;
	flagstone_write write;
	flagstone_options open;
	int64_t initial;
	uint64_t until;
} command;

static uint64_t number(command *c, const char *s)
{
	char *end;
	errno = 0;
	unsigned long long n = strtoull(s, &end, 10);
	if (errno || *end || end == s || *s == '-')
		c->bad = true;
	return n;
}

static uint32_t small(command *c, const char *s)
{
	uint64_t n = number(c, s);
	if (n > UINT32_MAX)
		c->bad = true;
	return (uint32_t)n;
}

static int64_t signed_number(command *c, const char *s)
{
	char *end;
	errno = 0;
	long long n = strtoll(s, &end, 10);
	if (errno || *end || end == s)
		c->bad = true;
	return n;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes up to the end of the word, with a zero after them. */
static unsigned char *bytes_of(command *c, const char *s, size_t n, size_t *length)
{
	unsigned char *bytes = take(n / 2 + 1);
	*length = 0;
	if (n == 1 && s[0] == '-')
		n = 0;
	for (size_t i = 0; i + 1 < n; i += 2) {
		int high = digit(s[i]), low = digit(s[i + 1]);
		if (high < 0 || low < 0)
			c->bad = true;
		bytes[(*length)++] = (unsigned char)(high << 4 | low);
	}
	if (n % 2)
		c->bad = true;
	bytes[*length] = 0;
	return bytes;
}

static unsigned char *bytes(command *c, const char *s, size_t *length)
{
	return bytes_of(c, s, strlen(s), length);
}

/* A name in bytes, as a string: no name has a zero byte. */
static const char *name(command *c, const char *s)
{
	size_t length;
	char *n = (char *)bytes(c, s, &length);
	if (strlen(n) != length)
		c->bad = true;
	return n;
}

static flagstone_key key_of(command *c, const char *s)
{
	size_t length, space_length;
	if (*s == '#') {
		uint64_t hash = 0;
		if (strlen(s) != 17)
			c->bad = true;
		for (const char *p = s + 1; *p; p++) {
			if (digit(*p) < 0)
				c->bad = true;
			hash = hash << 4 | (uint64_t)(digit(*p) & 15);
		}
		return flagstone_hash(hash);
	}
	const char *slash = strchr(s, '/');
	if (*s != '@') {
		unsigned char *plain = bytes(c, s, &length);
		return flagstone_bytes(plain, length);
	}
	if (!slash) {
		c->bad = true;
		return flagstone_bytes("", 0);
	}
	unsigned char *space = bytes_of(c, s + 1, (size_t)(slash - s - 1), &space_length);
	unsigned char *key = bytes(c, slash + 1, &length);
	return flagstone_scoped(space, space_length, key, length);
}

static bool word_is(const char *s, const char *name, const char **value)
{
	size_t n = strlen(name);
	*value = s + n + 1;
	return strncmp(s, name, n) == 0 && s[n] == '=';
}

/* One of the words of `allowed`, separated by spaces; -1 if it is none. */
static int choice(command *c, const char *value, const char *first, const char *second, const char *third)
{
	const char *names[] = {first, second, third};
	for (int i = 0; i < 3; i++)
		if (names[i] && strcmp(value, names[i]) == 0)
			return i;
	c->bad = true;
	return 0;
}

static bool option(command *c, const char *s, const char *allowed)
{
	const char *v;
	const char *equals = strchr(s, '=');
	if (!equals)
		return false;
	char padded[64];
	if (snprintf(padded, sizeof padded, " %.*s ", (int)(equals - s), s) >= (int)sizeof padded || !strstr(allowed, padded))
		return false;
	if (word_is(s, "wait", &v)) c->wait = number(c, v);
	else if (word_is(s, "ttl", &v)) c->write.ttl = number(c, v);
	else if (word_is(s, "stale", &v)) c->write.stale = small(c, v);
	else if (word_is(s, "tag", &v)) c->write.tag = small(c, v);
	else if (word_is(s, "expiry", &v)) c->write.expiry = number(c, v);
	else if (word_is(s, "tier", &v)) c->write.tier = small(c, v);
	else if (word_is(s, "initial", &v)) c->initial = signed_number(c, v);
	else if (word_is(s, "until", &v)) c->until = number(c, v);
	else if (word_is(s, "create", &v)) c->open.attach = number(c, v) == 0;
	else if (word_is(s, "read", &v)) c->open.read = number(c, v) == 1;
	else if (word_is(s, "slab", &v)) c->open.slab = name(c, v);
	else if (word_is(s, "entries", &v)) c->open.entries = number(c, v);
	else if (word_is(s, "cell", &v)) c->open.cell = small(c, v);
	else if (word_is(s, "maxkey", &v)) c->open.max_key = small(c, v);
	else if (word_is(s, "maxvalue", &v)) c->open.max_value = small(c, v);
	else if (word_is(s, "shards", &v)) c->open.shards = small(c, v);
	else if (word_is(s, "order", &v)) c->open.order = choice(c, v, "lru", "s3fifo", NULL) ? FLAGSTONE_S3FIFO : FLAGSTONE_LRU;
	else if (word_is(s, "full", &v)) c->open.full = choice(c, v, "evict", "refuse", NULL) ? FLAGSTONE_REFUSE : FLAGSTONE_EVICT;
	else if (word_is(s, "stamp", &v)) c->open.precision = small(c, v) + 1;
	else if (word_is(s, "regions", &v)) c->open.regions = small(c, v);
	else if (word_is(s, "wake", &v)) c->open.wake = (enum flagstone_wake)choice(c, v, "poll", "futex", "signal");
	else if (word_is(s, "steward", &v)) c->open.steward = number(c, v) == 1;
	else if (word_is(s, "promote", &v)) c->open.no_promote = number(c, v) == 0;
	else if (word_is(s, "group", &v)) c->open.group = number(c, v) == 1;
	else return false;
	return true;
}

/* --- Beginning and end --- */

static void do_hello(command *c)
{
	(void)c;
	puts("ok flagstone-conformance 1 c full " TESTEE_LAYOUT);
}

static void do_open(command *c)
{
	uint32_t region, generation;
	if (handle) {
		puts("err options there is a handle already");
		return;
	}
	if (answered(flagstone_open(c->words[0], c->words[1], &c->open, &handle)))
		return;
	flagstone_status status = flagstone_region(handle, &region, &generation);
	if (status == FLAGSTONE_READONLY)
		puts("ok - -");
	else if (!answered(status))
		printf("ok %" PRIu32 " %" PRIu32 "\n", region, generation);
}

static void do_close(command *c)
{
	(void)c;
	flagstone_close(handle);
	handle = NULL;
	puts("ok");
}

static void do_destroy(command *c)
{
	answer(flagstone_destroy(c->words[0], c->words[1]));
}

static void do_gc(command *c)
{
	uint64_t n = 0;
	flagstone_status status = flagstone_gc(c->words[0], true, &n);
	answer_number(status, n);
}

static bool list_row(void *context, const char *domain)
{
	text t = {0};
	text_string(&t, domain);
	rows_add(context, &t);
	return true;
}

static void do_list(command *c)
{
	rows r = {0};
	flagstone_status status = flagstone_list(c->words[0], list_row, &r);
	answer_rows_or(status, &r);
}

/* --- Records --- */

typedef flagstone_status (*lookup)(flagstone *, flagstone_key, flagstone_value *);

/* A buffer for any value, kept for the next command. */
static flagstone_value roomy(void)
{
	static void *buffer;
	static size_t capacity;
	size_t most = flagstone_max_value(handle);
	if (capacity < most || !buffer) {
		free(buffer);
		buffer = malloc(most + 1);
		capacity = most;
		if (!buffer)
			abort();
	}
	flagstone_value value = {.buffer = buffer, .capacity = capacity};
	return value;
}

static void look(command *c, lookup find, bool with_stale)
{
	flagstone_value value = roomy();
	if (answered(find(handle, key_of(c, c->words[0]), &value)))
		return;
	text t = {0};
	text_string(&t, "ok ");
	text_bytes(&t, value.buffer, value.length);
	text_number(&t, value.version);
	text_number(&t, value.expiry);
	text_number(&t, value.stale);
	text_number(&t, value.tag);
	if (with_stale)
		text_number(&t, value.expired);
	puts(t.bytes);
	free(t.bytes);
}

static void do_get(command *c)
{
	look(c, flagstone_get, false);
}

static void do_peek(command *c)
{
	look(c, flagstone_peek, false);
}

static void do_stale(command *c)
{
	look(c, flagstone_stale, true);
}

static void do_batch(command *c)
{
	flagstone_key *keys = take(c->count * sizeof *keys);
	flagstone_value *values = take(c->count * sizeof *values);
	size_t most = flagstone_max_value(handle);
	for (size_t i = 0; i < c->count; i++) {
		keys[i] = key_of(c, c->words[i]);
		values[i] = (flagstone_value){.buffer = take(most), .capacity = most};
	}
	if (answered(flagstone_batch(handle, keys, values, c->count)))
		return;
	rows r = {0};
	for (size_t i = 0; i < c->count; i++) {
		text t = {0};
		text_string(&t, values[i].status == FLAGSTONE_OK ? "+ " : "-");
		if (values[i].status == FLAGSTONE_OK)
			text_bytes(&t, values[i].buffer, values[i].length);
		rows_add(&r, &t);
	}
	answer_rows(&r);
}

typedef flagstone_status (*store)(flagstone *, flagstone_key, const void *, size_t, const flagstone_write *, uint64_t *);

static void write_with(command *c, store set)
{
	size_t length;
	uint64_t version = 0;
	unsigned char *value = bytes(c, c->words[1], &length);
	flagstone_status status = set(handle, key_of(c, c->words[0]), value, length, &c->write, &version);
	answer_number(status, version);
}

static void do_set(command *c)
{
	write_with(c, flagstone_set);
}

static void do_add(command *c)
{
	write_with(c, flagstone_add);
}

static void do_replace(command *c)
{
	write_with(c, flagstone_replace);
}

static void do_cas(command *c)
{
	size_t length;
	uint64_t version = 0;
	unsigned char *value = bytes(c, c->words[2], &length);
	flagstone_status status = flagstone_cas(handle, key_of(c, c->words[0]), number(c, c->words[1]), value, length, &c->write, &version);
	answer_number(status, version);
}

static void do_del(command *c)
{
	answer(flagstone_del(handle, key_of(c, c->words[0])));
}

static void do_incr(command *c)
{
	int64_t sum;
	if (!answered(flagstone_incr(handle, key_of(c, c->words[0]), signed_number(c, c->words[1]), c->initial, &c->write, &sum)))
		printf("ok %" PRId64 "\n", sum);
}

static void do_touch(command *c)
{
	answer(flagstone_touch(handle, key_of(c, c->words[0]), number(c, c->words[1])));
}

static void do_claim(command *c)
{
	flagstone_value value = roomy();
	flagstone_claimed outcome;
	if (answered(flagstone_claim(handle, key_of(c, c->words[0]), number(c, c->words[1]), &outcome, &value)))
		return;
	text t = {0};
	switch (outcome) {
	case FLAGSTONE_CLAIM_MINE:
		text_string(&t, "ok claim");
		text_number(&t, value.version);
		break;
	case FLAGSTONE_CLAIM_VALUE:
		text_string(&t, "ok value ");
		text_bytes(&t, value.buffer, value.length);
		break;
	case FLAGSTONE_CLAIM_HELD:
		text_string(&t, "ok held");
		break;
	case FLAGSTONE_CLAIM_FAILED:
		text_string(&t, "ok failed ");
		text_bytes(&t, value.buffer, value.length);
		break;
	case FLAGSTONE_CLAIM_NOROOM:
		text_string(&t, "err full no room for a claim");
		break;
	}
	puts(t.bytes);
	free(t.bytes);
}

static void do_fill(command *c)
{
	size_t length;
	uint64_t version = 0;
	unsigned char *value = bytes(c, c->words[2], &length);
	flagstone_status status = flagstone_fill(handle, key_of(c, c->words[0]), number(c, c->words[1]), value, length, &c->write, &version);
	answer_number(status, version);
}

static void do_release(command *c)
{
	answer(flagstone_release(handle, key_of(c, c->words[0]), number(c, c->words[1])));
}

static void do_fail(command *c)
{
	size_t length;
	unsigned char *why = bytes(c, c->words[2], &length);
	answer(flagstone_fail(handle, key_of(c, c->words[0]), number(c, c->words[1]), why, length, c->until));
}

static void do_clearns(command *c)
{
	size_t length;
	unsigned char *space = bytes(c, c->words[0], &length);
	answer(flagstone_clear_namespace(handle, space, length));
}

static void do_clear(command *c)
{
	(void)c;
	uint64_t n = 0;
	flagstone_status status = flagstone_clear(handle, &n);
	answer_number(status, n);
}

static void text_key(text *t, const flagstone_record *r)
{
	const unsigned char *p = r->key;
	if (!(r->flags & 1) || r->key_length != 8) {
		text_bytes(t, r->key, r->key_length);
		return;
	}
	uint64_t hash = 0;
	for (int i = 7; i >= 0; i--)
		hash = hash << 8 | p[i];
	char s[32];
	snprintf(s, sizeof s, "#%016" PRIx64, hash);
	text_string(t, s);
}

static bool scan_row(void *context, const flagstone_record *r)
{
	text t = {0};
	text_key(&t, r);
	text_string(&t, " ");
	text_bytes(&t, r->value, r->value_length);
	text_number(&t, r->version);
	text_number(&t, r->expiry);
	text_number(&t, r->stale);
	text_number(&t, r->tag);
	rows_add(context, &t);
	return true;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void do_scan(command *c)
{
	(void)c;
	rows r = {0};
	flagstone_status status = flagstone_scan(handle, scan_row, &r);
	if (r.count)
		qsort(r.line, r.count, sizeof *r.line, by_bytes);
	answer_rows_or(status, &r);
}

static void do_evict(command *c)
{
	uint64_t n = 0;
	flagstone_status status = flagstone_evict(handle, number(c, c->words[0]), number(c, c->words[1]), &n);
	answer_number(status, n);
}

static void do_evicttag(command *c)
{
	uint64_t n = 0;
	flagstone_status status = flagstone_evict_tag(handle, small(c, c->words[0]), &n);
	answer_number(status, n);
}

static void do_evictnear(command *c)
{
	uint64_t n = 0;
	flagstone_status status = flagstone_evict_near(handle, key_of(c, c->words[0]), number(c, c->words[1]), &n);
	answer_number(status, n);
}

/* --- Control segment, locks, tiers --- */

static bool peer_row(void *context, const flagstone_peer *p)
{
	static const char *const modes[] = {"poll", "futex", "signal"};
	text t = {0};
	char s[96];
	snprintf(s, sizeof s, "%" PRIu32 " %" PRIu32 " %" PRIu32 " %d ", p->region, p->generation, p->pid, p->alive);
	text_string(&t, s);
	if (p->mode < 3)
		text_string(&t, modes[p->mode]);
	else
		text_number(&t, p->mode);
	rows_add(context, &t);
	return true;
}

static void do_peers(command *c)
{
	(void)c;
	rows r = {0};
	flagstone_status status = flagstone_peers(handle, peer_row, &r);
	answer_rows_or(status, &r);
}

static void do_reap(command *c)
{
	(void)c;
	uint64_t n = 0;
	flagstone_status status = flagstone_reap(handle, &n);
	answer_number(status, n);
}

static bool entry_row(void *context, const flagstone_entry *e)
{
	text t = {0};
	text_string(&t, e->state);
	text_number(&t, e->kind);
	text_number(&t, e->tier);
	text_id(&t, e->segment);
	text_id(&t, e->stack);
	text_number(&t, e->size);
	text_string(&t, " ");
	text_bytes(&t, e->name, e->name_length);
	rows_add(context, &t);
	return true;
}

static void do_entries(command *c)
{
	(void)c;
	rows r = {0};
	flagstone_status status = flagstone_entries(handle, entry_row, &r);
	answer_rows_or(status, &r);
}

static void do_lock(command *c)
{
	answer(flagstone_lock(handle, small(c, c->words[0]), NULL));
}

static void do_unlock(command *c)
{
	answer(flagstone_unlock(handle, small(c, c->words[0]), false));
}

static void do_hold(command *c)
{
	answer(flagstone_hold(handle, key_of(c, c->words[0])));
}

static void do_drop(command *c)
{
	(void)c;
	answer(flagstone_drop(handle));
}

static void do_flags(command *c)
{
	answer(flagstone_flags(handle, small(c, c->words[0])));
}

static void do_ring(command *c)
{
	answer(flagstone_ring(handle, small(c, c->words[0]), small(c, c->words[1])));
}

static void do_heard(command *c)
{
	(void)c;
	uint32_t reasons;
	uint64_t changes;
	if (!answered(flagstone_heard(handle, &reasons, &changes)))
		printf("ok %" PRIu32 " %" PRIu64 "\n", reasons, changes);
}

static void do_await(command *c)
{
	answer(flagstone_await(handle, small(c, c->words[0]), (uint32_t)c->wait));
}

static void do_steward(command *c)
{
	(void)c;
	uint32_t region = 0;
	flagstone_status status = flagstone_steward(handle, &region);
	answer_number(status, region);
}

static void do_lead(command *c)
{
	(void)c;
	answer(flagstone_lead(handle));
}

static void do_resign(command *c)
{
	(void)c;
	answer(flagstone_resign(handle));
}

static void do_grow(command *c)
{
	uint64_t segment = 0;
	flagstone_status status = flagstone_grow(handle, name(c, c->words[0]), number(c, c->words[1]), &segment);
	answer_id(status, segment);
}

static void do_drain(command *c)
{
	uint64_t n = 0;
	flagstone_status status = flagstone_drain(handle, small(c, c->words[0]), &n);
	answer_number(status, n);
}

static void do_age(command *c)
{
	uint64_t n = 0;
	flagstone_status status = flagstone_age(handle, small(c, c->words[0]), small(c, c->words[1]), number(c, c->words[2]),
	                                        number(c, c->words[3]), &n);
	answer_number(status, n);
}

static void do_slab(command *c)
{
	uint64_t segment = 0;
	flagstone_status status = flagstone_make_slab(handle, name(c, c->words[0]), number(c, c->words[1]), NULL, &segment);
	answer_id(status, segment);
}

static void do_retire(command *c)
{
	answer(flagstone_retire(handle, name(c, c->words[0])));
}

static const char *slab_name(command *c, const char *s)
{
	return strcmp(s, "-") == 0 ? NULL : name(c, s);
}

static void do_move(command *c)
{
	uint64_t n = 0;
	flagstone_status status = flagstone_move(handle, slab_name(c, c->words[0]), slab_name(c, c->words[1]), number(c, c->words[2]), &n);
	answer_number(status, n);
}

static void do_publish(command *c)
{
	uint64_t segment = 0;
	flagstone_status status = flagstone_publish(handle, name(c, c->words[0]), number(c, c->words[1]), NULL, NULL, &segment);
	answer_id(status, segment);
}

static void do_now(command *c)
{
	(void)c;
	uint64_t wall, domain;
	if (!answered(flagstone_now(handle, &wall, &domain)))
		printf("ok %" PRIu64 " %" PRIu64 "\n", wall, domain);
}

static void do_refresh(command *c)
{
	(void)c;
	uint32_t tiers = 0;
	flagstone_status status = flagstone_refresh(handle, &tiers);
	answer_number(status, tiers);
}

/* --- Looking --- */

static bool stat_row(void *context, const flagstone_stat *s)
{
	text t = {0};
	char n[16];
	snprintf(n, sizeof n, "%" PRIu32, s->tier);
	text_string(&t, n);
	text_id(&t, s->segment);
	text_number(&t, s->records);
	text_number(&t, s->cells);
	text_number(&t, s->bytes);
	rows_add(context, &t);
	return true;
}

static void do_stat(command *c)
{
	(void)c;
	rows r = {0};
	flagstone_status status = flagstone_stats(handle, stat_row, &r);
	answer_rows_or(status, &r);
}

static bool dump_shard(void *context, const flagstone_shard *s)
{
	text t = {0};
	text_string(&t, "shard");
	text_number(&t, s->tier);
	text_number(&t, s->shard);
	text_number(&t, s->live);
	text_number(&t, s->used);
	text_number(&t, s->sequence);
	text_number(&t, s->turn);
	text_number(&t, s->small);
	rows_add(context, &t);
	return true;
}

static bool dump_record(void *context, const flagstone_record *r)
{
	text t = {0};
	text_string(&t, r->small ? "record small " : "record main ");
	text_bytes(&t, r->key, r->key_length);
	text_number(&t, r->flags);
	text_string(&t, " ");
	text_bytes(&t, r->value, r->value_length);
	text_number(&t, r->version);
	text_number(&t, r->expiry);
	text_number(&t, r->stale);
	text_number(&t, r->tag);
	text_number(&t, r->stamp);
	text_number(&t, r->count);
	rows_add(context, &t);
	return true;
}

static void do_dump(command *c)
{
	(void)c;
	rows r = {0};
	flagstone_status status = flagstone_dump(handle, dump_shard, dump_record, &r);
	answer_rows_or(status, &r);
}

static bool check_row(void *context, const char *what)
{
	text t = {0};
	text_string(&t, what);
	rows_add(context, &t);
	return true;
}

static void do_check(command *c)
{
	(void)c;
	rows r = {0};
	flagstone_status status = flagstone_check(handle, check_row, &r);
	answer_rows_or(status, &r);
}

static void do_rebuild(command *c)
{
	(void)c;
	answer(flagstone_rebuild(handle));
}

static void do_repair(command *c)
{
	(void)c;
	uint64_t n = 0;
	flagstone_status status = flagstone_repair(handle, &n);
	answer_number(status, n);
}

/* --- For tests of crashes --- */

static void do_crash(command *c)
{
	(void)c;
	raise(SIGKILL);
}

/* The child says what became of its handle, and stays until nobody can write to its standard input any more; it takes no byte from there. */
static void child(int out)
{
	const char *s = flagstone_status_name(flagstone_get(handle, flagstone_bytes("", 0), NULL));
	if (write(out, s, strlen(s)) < 0)
		_exit(1);
	close(out);
	struct pollfd in = {.fd = 0, .events = 0};
	while (poll(&in, 1, -1) < 0 && errno == EINTR)
		;
	_exit(0);
}

static void do_fork(command *c)
{
	(void)c;
	int ends[2];
	char said[64];
	ssize_t n = 0;
	size_t all = 0;
	if (pipe(ends) < 0) {
		puts("err nodescriptor no pipe");
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[0]);
		child(ends[1]);
	}
	close(ends[1]);
	while (pid > 0 && all < sizeof said - 1 && (n = read(ends[0], said + all, sizeof said - 1 - all)) > 0)
		all += (size_t)n;
	close(ends[0]);
	said[all] = 0;
	if (pid < 0)
		puts("err nomemory no child");
	else
		printf("ok %d %s\n", (int)pid, said);
}

/* --- Reading commands --- */

#define WRITE_OPTIONS " wait ttl stale tag expiry tier "
#define OPEN_OPTIONS                                                                                                                    \
	" wait create read slab entries cell maxkey maxvalue shards order full stamp regions wake steward promote group "
#define ANY 1000000

static const struct {
	const char *name;
	size_t least, most;     /* words after it, without options */
	const char *options;
	bool free;              /* without a handle too */
	void (*run)(command *);
} commands[] = {
	{"hello", 0, 0, "", true, do_hello},
	{"open", 2, 2, OPEN_OPTIONS, true, do_open},
	{"close", 0, 0, "", false, do_close},
	{"destroy", 2, 2, "", true, do_destroy},
	{"gc", 1, 1, "", true, do_gc},
	{"list", 1, 1, "", true, do_list},
	{"get", 1, 1, " wait ", false, do_get},
	{"peek", 1, 1, " wait ", false, do_peek},
	{"stale", 1, 1, " wait ", false, do_stale},
	{"batch", 0, ANY, " wait ", false, do_batch},
	{"set", 2, 2, WRITE_OPTIONS, false, do_set},
	{"add", 2, 2, WRITE_OPTIONS, false, do_add},
	{"replace", 2, 2, WRITE_OPTIONS, false, do_replace},
	{"cas", 3, 3, WRITE_OPTIONS, false, do_cas},
	{"del", 1, 1, " wait ", false, do_del},
	{"incr", 2, 2, " wait initial ttl ", false, do_incr},
	{"touch", 2, 2, " wait ", false, do_touch},
	{"claim", 2, 2, " wait ", false, do_claim},
	{"fill", 3, 3, WRITE_OPTIONS, false, do_fill},
	{"release", 2, 2, " wait ", false, do_release},
	{"fail", 3, 3, " wait until ", false, do_fail},
	{"clearns", 1, 1, " wait ", false, do_clearns},
	{"clear", 0, 0, " wait ", false, do_clear},
	{"scan", 0, 0, " wait ", false, do_scan},
	{"evict", 2, 2, " wait ", false, do_evict},
	{"evicttag", 1, 1, " wait ", false, do_evicttag},
	{"evictnear", 2, 2, " wait ", false, do_evictnear},
	{"peers", 0, 0, "", false, do_peers},
	{"reap", 0, 0, "", false, do_reap},
	{"entries", 0, 0, "", false, do_entries},
	{"lock", 1, 1, " wait ", false, do_lock},
	{"unlock", 1, 1, "", false, do_unlock},
	{"hold", 1, 1, " wait ", false, do_hold},
	{"drop", 0, 0, "", false, do_drop},
	{"flags", 1, 1, "", false, do_flags},
	{"ring", 2, 2, "", false, do_ring},
	{"heard", 0, 0, "", false, do_heard},
	{"await", 1, 1, " wait ", false, do_await},
	{"steward", 0, 0, "", false, do_steward},
	{"lead", 0, 0, "", false, do_lead},
	{"resign", 0, 0, "", false, do_resign},
	{"grow", 2, 2, " wait ", false, do_grow},
	{"drain", 1, 1, " wait ", false, do_drain},
	{"age", 4, 4, " wait ", false, do_age},
	{"slab", 2, 2, " wait ", false, do_slab},
	{"retire", 1, 1, " wait ", false, do_retire},
	{"move", 3, 3, " wait ", false, do_move},
	{"publish", 2, 2, " wait ", false, do_publish},
	{"now", 0, 0, "", false, do_now},
	{"refresh", 0, 0, " wait ", false, do_refresh},
	{"stat", 0, 0, " wait ", false, do_stat},
	{"dump", 0, 0, " wait ", false, do_dump},
	{"check", 0, 0, " wait ", false, do_check},
	{"rebuild", 0, 0, " wait ", false, do_rebuild},
	{"repair", 0, 0, " wait ", false, do_repair},
	{"crash", 0, 0, "", true, do_crash},
	{"fork", 0, 0, "", false, do_fork},
};

static void run(char *line)
{
	command c = {.wait = DEFAULT_WAIT, .open = {.wake = FLAGSTONE_WAKE_FUTEX, .order = FLAGSTONE_LRU}};
	char **words = take((strlen(line) / 2 + 2) * sizeof *words);
	size_t count = 0;
	for (char *rest = line, *word; (word = strsep(&rest, " "));)
		words[count++] = word;
	size_t i = 0, known = sizeof commands / sizeof *commands;
	while (i < known && strcmp(commands[i].name, words[0]) != 0)
		i++;
	if (i == known) {
		puts("unsupported");
		return;
	}
	c.words = words + 1;
	size_t given = count - 1;
	while (c.count < given && c.count < commands[i].most && (c.count < commands[i].least || !strchr(c.words[c.count], '=')))
		c.count++;
	for (size_t o = c.count; o < given; o++)
		if (!option(&c, c.words[o], commands[i].options)) {
			puts("unsupported");
			return;
		}
	if (c.count < commands[i].least || c.bad) {
		puts("err options the command's words");
		return;
	}
	if (!handle && !commands[i].free) {
		puts("err closed no handle");
		return;
	}
	c.open.patience = (uint32_t)c.wait;
	if (handle)
		flagstone_patience(handle, (uint32_t)c.wait);
	commands[i].run(&c);
	if (c.bad)
		fprintf(stderr, "testee: a word of %s was not understood\n", words[0]);
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	while ((n = getline(&line, &room, stdin)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = 0;
		run(line);
		fflush(stdout);
		give_all();
	}
	free(line);
	flagstone_close(handle);
	return 0;
}
