/* Properties of the slab parts: against a model that is arrays, after damage, with several tiers and threads. */
#include "slab_stub.h"

#define expect(condition)                                                                                            \
	do                                                                                                               \
		if (!(condition)) {                                                                                          \
			fprintf(stderr, "%s: %s:%d: not so: %s (%s)\n", __func__, __FILE__, __LINE__, #condition, stub_text);    \
			abort();                                                                                                 \
		}                                                                                                            \
	while (0)

static uint64_t pick(uint64_t n) { return random_word() % n; }

/* --- Making slabs --- */

/* A published slab whose index is as tight as the test wants it. */
static void add_slab(const char *name, uint64_t stack, uint32_t tier, struct geometry g)
{
	struct entry entry;
	geometry_derive(&g);
	g.capacity = 1;
	expect(geometry_limits(&g));
	expect(slab_publish(&stub.domain, name, stack, tier, &g, &entry) == FLAGSTONE_OK);
}

static struct geometry small_geometry(uint32_t order, uint32_t cells, uint32_t buckets)
{
	return (struct geometry){.shards = 1, .cell_size = 64, .cells = cells, .buckets = buckets, .max_key = 40, .max_value = 200, .order = order,
	                         .full = FS_FullEvict};
}

static struct stack *open_stack(void)
{
	struct stack *stack;
	expect(stack_open(&stub.domain, "primary", NULL, false, &stack) == FLAGSTONE_OK);
	return stack;
}

static bool complain(void *context, const char *text)
{
	fprintf(stderr, "check: %s\n", text);
	++*(int *)context;
	return true;
}

static void expect_sound(struct stack *stack)
{
	int n = 0;
	expect(slab_check(stack, 1000, complain, &n) == FLAGSTONE_OK);
	expect(n == 0);
}

/* --- The model: a slab of one shard as two arrays, newest first --- */

enum { KEYS = 64, LONGEST = 200 };

struct model_record {
	int key;
	uint64_t version, stamp, expiry;
	uint32_t length, count, turn, tag;
	unsigned char value[LONGEST];
};

struct model_queue {
	struct model_record *record[KEYS];
	int count;
};

static struct model {
	struct model_queue small, main;
	uint64_t sequence, turn, left, used, sets, deletes, evicted;
	uint16_t ghosts[64][8];
	const struct geometry *g;
	struct stack *stack;
} model;

static struct key model_key(struct stack *stack, int i, char bytes[48])
{
	int n = snprintf(bytes, 48, "k%d", i);
	for (; n < 3 + i % 38; n++)
		bytes[n] = 'x';
	return key_make(stack, bytes, (size_t)n, 0);
}

static uint64_t model_cells(int key, uint32_t length)
{
	char bytes[48];
	uint64_t n = model_key(model.stack, key, bytes).length + (uint64_t)length;
	return n <= 16 ? 1 : 1 + (n - 16 + 39) / 40;
}

static void queue_remove(struct model_queue *q, int at)
{
	memmove(&q->record[at], &q->record[at + 1], (size_t)(q->count - at - 1) * sizeof q->record[0]);
	q->count--;
}

static void queue_push(struct model_queue *q, struct model_record *record)
{
	memmove(&q->record[1], &q->record[0], (size_t)q->count * sizeof q->record[0]);
	q->record[0] = record;
	q->count++;
}

static struct model_record *model_find(int key, struct model_queue **queue, int *at)
{
	struct model_queue *queues[] = {&model.small, &model.main};
	for (int q = 0; q < 2; q++)
		for (int i = 0; i < queues[q]->count; i++)
			if (queues[q]->record[i]->key == key) {
				*queue = queues[q];
				*at = i;
				return queues[q]->record[i];
			}
	return NULL;
}

static uint16_t *model_ghosts(int key, uint16_t *print)
{
	char bytes[48];
	uint64_t hash = model_key(model.stack, key, bytes).hash;
	*print = (uint16_t)(hash >> 16);
	return model.ghosts[(hash >> 32) * model.g->ghosts >> 32];
}

static void model_leave_ghost(int key)
{
	uint16_t print, *ghosts = model_ghosts(key, &print);
	memmove(ghosts + 1, ghosts, 7 * sizeof *ghosts);
	ghosts[0] = print;
}

static bool model_take_ghost(int key)
{
	uint16_t print, *ghosts = model_ghosts(key, &print);
	for (int i = 0; i < 8; i++)
		if (ghosts[i] == print) {
			ghosts[i] = 0;
			return true;
		}
	return false;
}

/* The oldest but keep. */
static int queue_last(const struct model_queue *q, int keep)
{
	int at = q->count - 1;
	if (at >= 0 && q->record[at]->key == keep)
		at--;
	return at;
}

static void model_victim(int keep)
{
	struct model_queue *q;
	int at;
	for (int moves = 0;; moves++) {
		bool s3 = model.g->order == FS_OrderS3FIFO;
		q = &model.small;
		at = s3 && model.small.count * 10 > model.small.count + model.main.count ? queue_last(q, keep) : -1;
		if (at < 0) {
			q = &model.main;
			at = queue_last(q, keep);
		}
		expect(at >= 0);
		struct model_record *r = q->record[at];
		if (!s3 || moves == 32 || r->count < (q == &model.small ? 2u : 1u))
			break;
		queue_remove(q, at);
		queue_push(&model.main, r);
		r->count = q == &model.small ? 0 : r->count - 1;
	}
	struct model_record *victim = q->record[at];
	if (q == &model.small)
		model_leave_ghost(victim->key);
	model.used -= model_cells(victim->key, victim->length);
	model.evicted++;
	queue_remove(q, at);
	free(victim);
}

static void model_written(void)
{
	if (model.g->order == FS_OrderS3FIFO)
		return;
	if (model.left == 0) {
		model.turn++;
		model.left = model.g->cells / 10 + 1;
	}
	model.left--;
}

static void model_set(int key, const unsigned char *value, uint32_t length, uint64_t expiry, uint32_t tag)
{
	struct model_queue *queue = NULL;
	int at = 0;
	uint64_t cells = model_cells(key, length);
	struct model_record *old = model_find(key, &queue, &at), *fresh = calloc(1, sizeof *fresh);
	uint64_t spared = old ? model_cells(key, old->length) : 0;
	while (model.used + cells - spared > model.g->cells - model.g->reserve)
		model_victim(key);
	old = model_find(key, &queue, &at);
	*fresh = (struct model_record){.key = key, .version = version_make(++model.sequence, 0), .stamp = atomic_load(&stub.header.DomainClock),
	                               .expiry = expiry, .length = length, .turn = model.turn & 0x3fff, .tag = tag};
	memcpy(fresh->value, value, length);
	if (model.g->order == FS_OrderS3FIFO) {
		fresh->count = old ? (old->count < 3 ? old->count + 1 : 3) : 0;
		if (old)
			queue->record[at] = fresh;
		else
			queue_push(model_take_ghost(key) ? &model.main : &model.small, fresh);
	} else {
		if (old)
			queue_remove(queue, at);
		queue_push(&model.main, fresh);
	}
	model.used += cells - spared;
	model.sets++;
	model_written();
	free(old);
}

static bool model_expired(const struct model_record *r)
{
	return r->expiry != 0 && r->expiry <= atomic_load(&stub.header.WallClock);
}

static void model_use(struct model_queue *queue, int at, bool always)
{
	struct model_record *r = queue->record[at];
	uint64_t now = atomic_load(&stub.header.DomainClock);
	if (always || r->stamp + model.g->stamp_millis < now)
		r->stamp = now;
	if (model.g->order == FS_OrderS3FIFO)
		r->count = r->count < 3 ? r->count + 1 : 3;
	else if (r->turn != (model.turn & 0x3fff)) {
		r->turn = model.turn & 0x3fff;
		queue_remove(queue, at);
		queue_push(&model.main, r);
	}
}

/* The queues as a rebuild makes them: by stamp, then version. */
static int by_age(const void *left, const void *right)
{
	const struct model_record *a = *(struct model_record *const *)left, *b = *(struct model_record *const *)right;
	if (a->stamp != b->stamp)
		return a->stamp > b->stamp ? -1 : 1;
	return a->version > b->version ? -1 : 1;
}

static void model_rebuild(void)
{
	qsort(model.small.record, (size_t)model.small.count, sizeof model.small.record[0], by_age);
	qsort(model.main.record, (size_t)model.main.count, sizeof model.main.record[0], by_age);
}

static void model_begin(struct stack *stack)
{
	memset(&model, 0, sizeof model);
	model.stack = stack;
	model.g = &stack_view(stack)->slab[0]->geometry;
}

static void model_end(void)
{
	while (model.small.count > 0)
		free(model.small.record[--model.small.count]);
	while (model.main.count > 0)
		free(model.main.record[--model.main.count]);
}

/* --- Slab and model are the same --- */

struct compared {
	int small, main;
};

static bool compare_record(void *context, const struct dumped *d)
{
	struct compared *at = context;
	bool small = d->found.small;
	struct model_queue *q = small ? &model.small : &model.main;
	int *i = small ? &at->small : &at->main;
	char bytes[48];
	expect(*i < q->count);
	const struct model_record *r = q->record[(*i)++];
	struct key key = model_key(model.stack, r->key, bytes);
	expect(d->found.key_length == key.length && memcmp(d->key, bytes, key.length) == 0);
	expect(d->found.value_length == r->length && memcmp(d->value, r->value, r->length) == 0);
	expect(d->found.version == r->version && d->found.expiry == r->expiry && d->found.tag == r->tag);
	expect(recency_stamp(d->found.recency) == r->stamp && recency_count(d->found.recency) == r->count);
	expect(model.g->order == FS_OrderS3FIFO || recency_turn(d->found.recency) == r->turn);
	return true;
}

static void compare(void)
{
	struct column c;
	struct compared at = {0, 0};
	expect(column_enter(&c, model.stack, 0, 1000) == FLAGSTONE_OK);
	struct FS_Shard *h = c.top;
	expect(h->Sequence == model.sequence && h->Turn == model.turn && h->TurnLeft == model.left);
	expect(h->Live == (uint32_t)(model.small.count + model.main.count) && h->Used == model.used && h->SmallCount == (uint32_t)model.small.count);
	expect(h->Sets == model.sets && h->Deletes == model.deletes && h->EvictedFull == model.evicted);
	expect(slab_dump(&c, 0, compare_record, &at) == FLAGSTONE_OK);
	expect(at.small == model.small.count && at.main == model.main.count);
	expect(column_leave(&c, FLAGSTONE_OK) == FLAGSTONE_OK);
}

/* --- Random operations on both --- */

static void step_set(int key)
{
	unsigned char value[LONGEST];
	char bytes[48];
	uint32_t length = (uint32_t)(pick(4) ? pick(30) : pick(LONGEST + 1));
	for (uint32_t i = 0; i < length; i++)
		value[i] = (unsigned char)random_word();
	struct record record = {.key = model_key(model.stack, key, bytes), .value = value, .length = length, .tag = (uint32_t)pick(5),
	                        .expiry = pick(8) ? 0 : atomic_load(&stub.header.WallClock) + pick(200)};
	struct model_queue *queue = NULL;
	int at = 0;
	struct model_record *old = model_find(key, &queue, &at);
	bool there = old && !model_expired(old);
	enum condition condition = (enum condition)pick(4);
	uint64_t expected = there && pick(2) ? old->version : 12345, version;
	bool holds = condition == IF_ALWAYS || (condition == IF_ABSENT && !there) || (condition == IF_PRESENT && there) ||
	             (condition == IF_VERSION && there && old->version == expected);
	flagstone_status status = write_set(model.stack, &record, 0, condition, expected, 1000, &version);
	expect(status == (holds ? FLAGSTONE_OK : FLAGSTONE_NO));
	if (holds)
		model_set(key, value, length, record.expiry, record.tag);
}

static void step_get(int key)
{
	unsigned char value[LONGEST];
	char bytes[48];
	struct key k = model_key(model.stack, key, bytes);
	struct answer answer = {.buffer = value, .capacity = sizeof value};
	struct model_queue *queue = NULL;
	int at = 0;
	struct model_record *r = model_find(key, &queue, &at);
	bool hit = r && !model_expired(r), peek = pick(3) == 0;
	expect(lookup(model.stack, &k, peek ? LOOKUP_PEEK : 0, &answer) == (hit ? FLAGSTONE_OK : FLAGSTONE_NO));
	if (!hit)
		return;
	expect(answer.length == r->length && memcmp(value, r->value, r->length) == 0);
	expect(answer.version == r->version && answer.expiry == r->expiry && answer.tag == r->tag);
	if (!peek)
		model_use(queue, at, false);
}

static void step_delete(int key)
{
	char bytes[48];
	struct key k = model_key(model.stack, key, bytes);
	struct model_queue *queue = NULL;
	int at = 0;
	struct model_record *r = model_find(key, &queue, &at);
	expect(write_delete(model.stack, &k, 1000) == (r && !model_expired(r) ? FLAGSTONE_OK : FLAGSTONE_NO));
	if (!r)
		return;
	model.used -= model_cells(key, r->length);
	model.deletes++;
	queue_remove(queue, at);
	free(r);
}

static void step_add(int key)
{
	char bytes[48];
	struct record record = {.key = model_key(model.stack, key, bytes)};
	int64_t delta = (int64_t)pick(1000) - 500, sum = 0, was = 7;
	struct model_queue *queue = NULL;
	int at = 0;
	struct model_record *r = model_find(key, &queue, &at);
	bool there = r && !model_expired(r);
	flagstone_status status = write_add(model.stack, &record, delta, 7, 1000, &sum);
	if (there && r->length != 8) {
		expect(status == FLAGSTONE_NOTCOUNTER);
		return;
	}
	if (there)
		memcpy(&was, r->value, 8);
	int64_t want;
	if (__builtin_add_overflow(was, delta, &want)) {
		expect(status == FLAGSTONE_OVERFLOW);
		return;
	}
	expect(status == FLAGSTONE_OK && sum == want);
	model_set(key, (unsigned char *)&want, 8, there ? r->expiry : 0, there ? r->tag : 0);
}

static void step_touch(int key)
{
	char bytes[48];
	struct key k = model_key(model.stack, key, bytes);
	struct model_queue *queue = NULL;
	int at = 0;
	struct model_record *r = model_find(key, &queue, &at);
	uint64_t expiry = pick(2) ? 0 : atomic_load(&stub.header.WallClock) + pick(300);
	bool there = r && !model_expired(r);
	expect(write_touch(model.stack, &k, expiry, 1000) == (there ? FLAGSTONE_OK : FLAGSTONE_NO));
	if (!there)
		return;
	r->expiry = expiry;
	model_use(queue, at, true);
}

static void step(void)
{
	int key = (int)(pick(3) ? pick(KEYS / 4) : pick(KEYS));
	stub_tick(pick(3));
	switch (pick(10)) {
	case 0:
		step_delete(key);
		break;
	case 1:
		step_add(key);
		break;
	case 2:
		step_touch(key);
		break;
	case 3: case 4: case 5:
		step_get(key);
		break;
	default:
		step_set(key);
	}
}

/* --- Damage --- */

/* Everything that a rebuild makes anew: index, lists, free lists, counts. */
static void damage_made(struct stack *stack)
{
	const struct shard *s = &stack_view(stack)->slab[0]->shards[0];
	for (int i = 0; i < 40; i++) {
		switch (pick(4)) {
		case 0:
			s->buckets[pick(s->geometry->buckets + s->geometry->overflow)].Slots[pick(7)] = pick(2) ? random_word() : pick(100);
			break;
		case 1:
			s->buckets[pick(s->geometry->buckets + s->geometry->overflow)].Link = pick(2) ? random_word() : pick(20);
			break;
		case 2: {
			struct FS_CellHeader *h = cell_at(s, 1 + (uint32_t)pick(s->geometry->cells));
			if ((h->Version & 3) == FS_VersionLive && h->Version != 0) {
				h->Prev = (h->Prev & (uint32_t)FS_QueueSmall) | (uint32_t)(random_word() & 0x7fffffff);
				h->Next = (uint32_t)pick(200);
			}
			break;
		}
		default: {
			_Atomic(uint32_t) *words[] = {&s->head->Live, &s->head->Used, &s->head->FreeHead, &s->head->Bump, &s->head->OverflowHead,
			                              &s->head->OverflowBump, &s->head->Front, &s->head->Back, &s->head->SmallFront,
			                              &s->head->SmallBack, &s->head->SmallCount};
			*words[pick(11)] = (uint32_t)(pick(2) ? random_word() : pick(100));
			if (pick(10) == 0)
				s->head->Bytes = random_word();
		}
		}
	}
}

/* Any byte of the shard but its lock and epoch. */
static void damage_anything(struct stack *stack, int count)
{
	const struct shard *s = &stack_view(stack)->slab[0]->shards[0];
	for (int i = 0; i < count; i++) {
		uint64_t at = 128 + pick(s->geometry->shard_stride - 128);
		((unsigned char *)s->head)[at] = (unsigned char)random_word();
	}
}

static void abandon(struct stack *stack)
{
	atomic_fetch_or(&stack_view(stack)->slab[0]->shards[0].head->Lock, FS_LockInconsistent);
}

/* --- Tests --- */

static void Slab_RandomOperations_EqualTheModel(uint64_t seed)
{
	uint32_t order = seed % 2 ? (uint32_t)FS_OrderLRU : (uint32_t)FS_OrderS3FIFO;
	stub_begin(seed);
	uint32_t cells = 30 + (uint32_t)pick(60);
	struct geometry g = small_geometry(order, cells, 1 + (uint32_t)pick(5));
	g.stamp_millis = (uint32_t)pick(30);
	add_slab("primary", 0, 0, g);
	struct stack *stack = open_stack();
	model_begin(stack);
	for (int i = 0; i < 3000; i++) {
		step();
		if (i % 16 == 0)
			compare();
		if (i % 500 == 499) {
			if (pick(2))
				damage_made(stack);
			abandon(stack);
			model_rebuild();
			compare();
		}
	}
	compare();
	expect_sound(stack);
	model_end();
	stack_close(stack);
	stub_end();
}

static bool count_complaint(void *context, const char *text)
{
	(void)text;
	++*(int *)context;
	return true;
}

static void Rebuild_AfterAnyDamage_LeavesASoundColumn(uint64_t seed)
{
	stub_begin(seed);
	add_slab("primary", 0, 0, small_geometry(seed % 2 ? (uint32_t)FS_OrderLRU : (uint32_t)FS_OrderS3FIFO, 64, 1 + (uint32_t)pick(16)));
	struct stack *stack = open_stack();
	for (int round = 0; round < 60; round++) {
		unsigned char value[LONGEST];
		char bytes[48];
		for (int i = 0; i < 60; i++) { /* whatever it comes to, it comes to an end */
			struct record record = {.key = model_key(stack, (int)pick(KEYS), bytes), .value = value, .length = pick(LONGEST)};
			struct answer answer = {.buffer = value, .capacity = sizeof value};
			memset(value, 1, sizeof value);
			switch (pick(3)) {
			case 0:
				write_delete(stack, &record.key, 1000);
				break;
			case 1:
				lookup(stack, &record.key, 0, &answer);
				break;
			default:
				write_set(stack, &record, 0, IF_ALWAYS, 0, 1000, NULL);
			}
		}
		damage_anything(stack, (int)pick(200));
		if (pick(2)) { /* also without anybody noticing */
			int ignored = 0;
			slab_check(stack, 1000, count_complaint, &ignored);
			continue;
		}
		abandon(stack);
		expect(tiers_rebuild(stack, 1000) == FLAGSTONE_OK);
		expect_sound(stack);
	}
	stack_close(stack);
	stub_end();
}

static void Rebuild_OfHighNumbers_GivesNewOnes(void)
{
	unsigned char value[LONGEST];
	char bytes[48];
	stub_begin(77);
	add_slab("primary", 0, 0, small_geometry((uint32_t)FS_OrderLRU, 64, 8));
	struct stack *stack = open_stack();
	struct FS_Shard *h = stack_view(stack)->slab[0]->shards[0].head;
	uint64_t version = 0;
	atomic_store(&h->Sequence, (FS_VersionLimit >> FS_VersionSequenceShift) - 5);
	for (int i = 0; i < 10; i++) {
		struct record record = {.key = model_key(stack, i, bytes), .value = value, .length = 60};
		memset(value, i, sizeof value);
		expect(write_set(stack, &record, 0, IF_ALWAYS, 0, 1000, &version) == FLAGSTONE_OK);
	}
	expect(version_sequence(version) < UINT64_C(1) << 48);
	for (int i = 0; i < 10; i++) {
		struct key key = model_key(stack, i, bytes);
		struct answer answer = {.buffer = value, .capacity = sizeof value};
		expect(lookup(stack, &key, 0, &answer) == FLAGSTONE_OK && answer.length == 60 && value[59] == i);
	}
	expect_sound(stack);
	stack_close(stack);
	stub_end();
}

/* Of three tiers that have room together nothing is lost, whatever moves. */
static void Tiers_RandomOperations_LoseNothing(uint64_t seed)
{
	unsigned char value[LONGEST];
	char bytes[48];
	uint32_t orders[] = {(uint32_t)FS_OrderLRU, (uint32_t)FS_OrderS3FIFO};
	int stamp[KEYS] = {0};
	uint64_t moved;
	stub_begin(seed);
	struct geometry g = small_geometry(orders[seed % 2], 24, 3);
	g.max_value = 40;
	add_slab("primary", 0, 0, g);
	struct stack *stack = open_stack();
	g = small_geometry(orders[seed / 2 % 2], 40, 2);
	g.max_value = 40;
	add_slab("tier1", stack->id, 1, g);
	g = small_geometry(orders[seed / 4 % 2], 200, 9);
	g.cell_size = 128;
	add_slab("tier2", stack->id, 2, g);
	for (int i = 1; i < 4000; i++) {
		int k = (int)pick(KEYS);
		struct key key = model_key(stack, k, bytes);
		struct answer answer = {.buffer = value, .capacity = sizeof value};
		struct record record = {.key = key, .value = value, .length = sizeof i};
		stub_tick(1);
		switch (pick(8)) {
		case 0:
			expect(write_delete(stack, &key, 1000) == (stamp[k] ? FLAGSTONE_OK : FLAGSTONE_NO));
			stamp[k] = 0;
			break;
		case 1: case 2: case 3: {
			flagstone_status status = lookup(stack, &key, 0, &answer);
			expect(status == (stamp[k] ? FLAGSTONE_OK : FLAGSTONE_NO));
			expect(!stamp[k] || memcmp(value, &stamp[k], sizeof i) == 0);
			break;
		}
		case 4:
			if (pick(4) == 0) {
				uint32_t from = (uint32_t)pick(3);
				expect(tiers_age(stack, from, (from + 1 + (uint32_t)pick(2)) % 3, atomic_load(&stub.header.DomainClock), pick(20), 1000, &moved) ==
				       FLAGSTONE_OK);
			}
			break;
		default:
			stamp[k] = i;
			memcpy(value, &i, sizeof i);
			expect(write_set(stack, &record, (uint32_t)(pick(8) ? 0 : 2), IF_ALWAYS, 0, 1000, NULL) == FLAGSTONE_OK);
		}
		if (i % 200 == 0) {
			expect_sound(stack);
			if (pick(2))
				expect(tiers_rebuild(stack, 1000) == FLAGSTONE_OK);
		}
	}
	expect_sound(stack);
	uint64_t before = 0, after = 0;
	for (int k = 0; k < KEYS; k++)
		before += stamp[k] != 0;
	expect(tiers_drain(stack, stack_view(stack)->slab[1]->segment, 1000, &moved) == FLAGSTONE_OK);
	expect(stack_view(stack)->tiers == 2);
	for (uint32_t t = 0; t < 2; t++)
		after += stack_view(stack)->slab[t]->shards[0].head->Live;
	expect(before == after);
	flagstone_status status = tiers_drain(stack, stack_view(stack)->slab[1]->segment, 1000, &moved);
	expect(before > 20 ? status == FLAGSTONE_FULL : status == FLAGSTONE_OK || status == FLAGSTONE_FULL);
	for (int k = 0; k < KEYS; k++) {
		struct key key = model_key(stack, k, bytes);
		struct answer answer = {.buffer = value, .capacity = sizeof value};
		expect(lookup(stack, &key, 0, &answer) == (stamp[k] ? FLAGSTONE_OK : FLAGSTONE_NO));
	}
	expect_sound(stack);
	stack_close(stack);
	stub_end();
}

static void Between_Stacks_MovesAllButClaims(void)
{
	char bytes[48];
	uint64_t moved = 0, id = 99;
	stub_begin(5);
	struct geometry g = small_geometry((uint32_t)FS_OrderLRU, 300, 80);
	g.shards = 4;
	add_slab("primary", 0, 0, g);
	g.shards = 2;
	add_slab("other", 0, 0, g);
	struct stack *from = open_stack(), *to;
	expect(stack_open(&stub.domain, "other", NULL, false, &to) == FLAGSTONE_OK);
	for (int i = 0; i < KEYS; i++) {
		struct record record = {.key = model_key(from, i, bytes), .value = &i, .length = sizeof i, .tag = 7};
		expect(write_set(from, &record, 0, IF_ALWAYS, 0, 1000, NULL) == FLAGSTONE_OK);
	}
	struct record space = {.key = key_make(from, "space", 5, (uint32_t)FS_FlagNamespace), .value = &id, .length = 8};
	expect(write_set(from, &space, 0, IF_ALWAYS, 0, 1000, NULL) == FLAGSTONE_OK);
	unsigned char scoped[12] = {0};
	uint64_t ids[] = {99, 101}; /* 101 names no namespace: it was cleared */
	for (int i = 0; i < 2; i++) {
		memcpy(scoped, &ids[i], 8);
		struct record record = {.key = key_make(from, scoped, sizeof scoped, (uint32_t)FS_FlagScoped), .value = &id, .length = 8};
		expect(write_set(from, &record, 0, IF_ALWAYS, 0, 1000, NULL) == FLAGSTONE_OK);
	}
	struct record claim = {.key = key_claim(model_key(from, 3, bytes)), .value = scoped, .length = 12};
	expect(write_set(from, &claim, 0, IF_ALWAYS, 0, 1000, NULL) == FLAGSTONE_OK);
	expect(tiers_between(from, to, UINT64_MAX, 1000, &moved) == FLAGSTONE_OK);
	expect(moved == KEYS + 1);
	uint64_t left = 0, there = 0;
	for (uint32_t i = 0; i < 4; i++)
		left += stack_view(from)->slab[0]->shards[i].head->Live;
	for (uint32_t i = 0; i < 2; i++)
		there += stack_view(to)->slab[0]->shards[i].head->Live;
	expect(left == 2 && there == KEYS + 2);
	struct answer answer = {.buffer = &id, .capacity = 8};
	struct key name = key_make(to, "space", 5, (uint32_t)FS_FlagNamespace);
	expect(lookup(to, &name, LOOKUP_PEEK, &answer) == FLAGSTONE_OK && id != 99);
	memcpy(scoped, &id, 8);
	struct key key = key_make(to, scoped, sizeof scoped, (uint32_t)FS_FlagScoped);
	expect(lookup(to, &key, LOOKUP_PEEK, &answer) == FLAGSTONE_OK && id == 99);
	expect_sound(from);
	expect_sound(to);
	expect(tiers_retire(&stub.domain, "other", 1000) == FLAGSTONE_OK);
	key = model_key(to, 1, bytes);
	expect(lookup(to, &key, 0, &answer) == FLAGSTONE_RETIRED);
	stack_close(from);
	stack_close(to);
	stub_end();
}

/* --- Threads: values are never torn, what stays is never missed --- */

enum { RACE_WORDS = 400, RACE_ROUNDS = 20000 };

static struct {
	struct stack *stack;
	_Atomic(bool) stop;
	_Atomic(uint64_t) hits;
} race;

static void *race_read(void *seed)
{
	uint64_t x = (uintptr_t)seed * 77 + 1;
	uint64_t value[RACE_WORDS];
	char bytes[48];
	count_stripe = 0;
	while (!atomic_load(&race.stop)) {
		x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
		int k = (int)(x >> 33) % KEYS;
		struct key key = model_key(race.stack, k, bytes);
		struct answer answer = {.buffer = value, .capacity = sizeof value};
		flagstone_status status = lookup(race.stack, &key, 0, &answer);
		expect(status == FLAGSTONE_OK || status == FLAGSTONE_NO || status == FLAGSTONE_BUSY);
		expect(k % 2 == 0 || status != FLAGSTONE_NO);
		if (status != FLAGSTONE_OK)
			continue;
		atomic_fetch_add(&race.hits, 1);
		expect(answer.length % 8 == 0 && answer.length >= 16 && value[0] % KEYS == (uint64_t)k);
		for (size_t i = 1; i < answer.length / 8; i++)
			expect(value[i] == value[0]);
	}
	return NULL;
}

static void Lookup_WhileOthersWriteAndMove_SeesWholeValuesAndMissesNothing(uint64_t seed)
{
	pthread_t readers[2];
	char bytes[48];
	uint64_t value[RACE_WORDS], moved;
	stub_begin(seed);
	struct geometry g = small_geometry(seed % 2 ? (uint32_t)FS_OrderLRU : (uint32_t)FS_OrderS3FIFO, 200, 6);
	g.cell_size = 512;
	g.max_value = 8 * RACE_WORDS;
	add_slab("primary", 0, 0, g);
	race.stack = open_stack();
	g.cells = 800;
	add_slab("tier1", race.stack->id, 1, g);
	atomic_store(&race.stop, false);
	for (int round = 0; round < RACE_ROUNDS; round++) {
		int k = round < KEYS ? round : (int)pick(KEYS);
		struct record record = {.key = model_key(race.stack, k, bytes), .value = value, .length = 8 * (2 + pick(RACE_WORDS - 1))};
		for (int i = 0; i < RACE_WORDS; i++)
			value[i] = (uint64_t)round * KEYS + (uint64_t)k;
		expect(write_set(race.stack, &record, pick(5) == 0, IF_ALWAYS, 0, 1000, NULL) == FLAGSTONE_OK);
		if (round == KEYS)
			for (intptr_t i = 0; i < 2; i++)
				pthread_create(&readers[i], NULL, race_read, (void *)(i + 1));
		if (k % 2 == 0 && pick(3) == 0)
			write_delete(race.stack, &record.key, 1000);
		if (pick(50) == 0)
			tiers_age(race.stack, (uint32_t)(round & 1), 1 - (uint32_t)(round & 1), UINT64_C(1) << 40, 10, 1000, &moved);
		if (pick(400) == 0)
			expect(tiers_rebuild(race.stack, 1000) == FLAGSTONE_OK);
		stub_tick(pick(2));
	}
	while (atomic_load(&race.hits) == 0)
		usleep(0);
	atomic_store(&race.stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	expect_sound(race.stack);
	stack_close(race.stack);
	stub_end();
}

/* --- Geometry --- */

static void Geometry_Planned_PassesItsOwnChecks(void)
{
	stub_begin(3);
	for (int i = 0; i < 300; i++) {
		struct shape shape = {.entries = 1 + pick(100000), .shards = pick(2) ? 1u << pick(6) : 0, .cell_size = 64u * (uint32_t)(1 + pick(4)),
		                      .max_key = (uint32_t)pick(100), .max_value = (uint32_t)pick(5000), .order = 1 + (uint32_t)pick(2)};
		struct geometry g, checked;
		if (pick(3) == 0) {
			shape.bytes = 100000 + pick(10000000);
			shape.entries = 0;
		}
		expect(geometry_plan(&shape, &g) == FLAGSTONE_OK);
		expect(!shape.bytes || g.file_size <= shape.bytes || g.capacity == 1);
		struct owner owner = {.segment = 5, .uuid = {1, 2}, .seed = 3};
		void *page = aligned_alloc(4096, 4096);
		memset(page, 0, 4096);
		geometry_format(page, &g, &owner);
		expect(geometry_check(page, g.file_size, &owner, &checked) == FLAGSTONE_OK);
		expect(memcmp(&g, &checked, sizeof g) == 0);
		expect(geometry_check(page, g.file_size - 1, &owner, &checked) == FLAGSTONE_TRUNCATED);
		owner.seed = 4;
		expect(geometry_check(page, g.file_size, &owner, &checked) == FLAGSTONE_FOREIGN);
		((unsigned char *)page)[88 + pick(96)] ^= (unsigned char)(1 + pick(255));
		expect(geometry_check(page, g.file_size, &owner, &checked) == FLAGSTONE_CHECKSUM);
		free(page);
	}
}

int main(int argc, char **argv)
{
	uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : 8;
	Geometry_Planned_PassesItsOwnChecks();
	Rebuild_OfHighNumbers_GivesNewOnes();
	Between_Stacks_MovesAllButClaims();
	for (uint64_t seed = 1; seed <= seeds; seed++) {
		Slab_RandomOperations_EqualTheModel(seed);
		Rebuild_AfterAnyDamage_LeavesASoundColumn(seed);
		Tiers_RandomOperations_LoseNothing(seed);
	}
	for (uint64_t seed = 1; seed <= 2; seed++)
		Lookup_WhileOthersWriteAndMove_SeesWholeValuesAndMissesNothing(seed);
	printf("slab: ok, %llu seeds\n", (unsigned long long)seeds);
	return 0;
}
