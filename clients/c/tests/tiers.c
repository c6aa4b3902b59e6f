/* Stacks of several slabs, and independent ones. */
#include "test.h"

static const flagstone_options tiers_options = {.entries = 400, .cell = 64, .max_value = 500, .shards = 2, .precision = 1};

static void tiers_fill(flagstone *h, int n)
{
	char k[32];
	for (int i = 0; i < n; i++)
		expect_ok(flagstone_set(h, number_key(k, i), k, 6, NULL, NULL));
}

static int tiers_left(flagstone *h, int n)
{
	char k[32];
	int left = 0;
	for (int i = 0; i < n; i++)
		left += flagstone_peek(h, number_key(k, i), NULL) == FLAGSTONE_OK;
	return left;
}

static void Tiers_Grow_KeepsVictims(void)
{
	flagstone *h = test_open(&tiers_options);
	uint64_t segment, moved;
	uint32_t n;
	expect_ok(flagstone_grow(h, "below", 1 << 20, &segment));
	expect(segment != 0);
	expect_ok(flagstone_refresh(h, &n));
	expect(n == 2);
	tiers_fill(h, 2000);
	expect(tiers_left(h, 2000) == 2000);
	char k[32];
	flagstone_value v = {0};
	expect_ok(flagstone_peek(h, number_key(k, 0), &v));
	expect(v.tier == 1);
	expect_ok(flagstone_get(h, number_key(k, 0), NULL)); /* comes up */
	expect_ok(flagstone_peek(h, number_key(k, 0), &v));
	expect(v.tier == 0);
	expect_sound(h);
	expect_status(flagstone_drain(h, 1, &moved), FLAGSTONE_FULL);
	expect(tiers_left(h, 2000) == 2000);
	for (int i = 300; i < 2000; i++)
		expect_ok(flagstone_del(h, number_key(k, i)));
	expect_ok(flagstone_drain(h, 1, &moved));
	expect(tiers_left(h, 300) == 300);
	expect_ok(flagstone_refresh(h, &n));
	expect(n == 1);
	expect_sound(h);
	test_end(h);
}

static void Tiers_SetBelowAndAge_MoveRecords(void)
{
	flagstone *h = test_open(&tiers_options);
	uint64_t moved, domain, now;
	flagstone_write below = {.tier = 1};
	flagstone_value v = {0};
	expect_status(flagstone_set(h, text_key("a"), "1", 1, &below, NULL), FLAGSTONE_NOSLAB);
	expect_ok(flagstone_grow(h, "below", 1 << 20, NULL));
	expect_ok(flagstone_set(h, text_key("a"), "1", 1, &below, NULL));
	expect_ok(flagstone_peek(h, text_key("a"), &v));
	expect(v.tier == 1);
	tiers_fill(h, 100);
	expect_ok(flagstone_now(h, NULL, &domain));
	do
		expect_ok(flagstone_now(h, NULL, &now));
	while (now < domain + 60);
	expect_ok(flagstone_age(h, 0, 1, now, 40, &moved));
	expect(moved == 40 && tiers_left(h, 100) == 100);
	expect_sound(h);
	test_end(h);
}

static void Slabs_Independent_KeepsItsOwnRecords(void)
{
	flagstone *h = test_open(&tiers_options), *other, *again;
	uint64_t moved;
	expect_status(flagstone_slab(h, "other", &other), FLAGSTONE_NOSLAB);
	expect_ok(flagstone_make_slab(h, "other", 1 << 20, NULL, NULL));
	expect_status(flagstone_make_slab(h, "other", 1 << 20, NULL, NULL), FLAGSTONE_SLABEXISTS);
	expect_ok(flagstone_slab(h, "other", &other));
	tiers_fill(h, 50);
	expect(tiers_left(other, 50) == 0);
	expect_ok(flagstone_set(h, flagstone_scoped("s", 1, "k", 1), "scoped", 6, NULL, NULL));
	expect_ok(flagstone_move(h, NULL, "other", 1000, &moved));
	expect(moved == 51 && tiers_left(other, 50) == 50 && tiers_left(h, 50) == 0);
	expect(has(other, flagstone_scoped("s", 1, "k", 1), "scoped"));
	expect_sound(other);
	expect_ok(flagstone_retire(h, "other"));
	expect_status(flagstone_set(other, text_key("a"), "", 0, NULL, NULL), FLAGSTONE_RETIRED);
	expect_status(flagstone_slab(h, "other", &again), FLAGSTONE_NOSLAB);
	flagstone_close(other);
	test_end(h);
}

static flagstone_status tiers_pattern(void *context, void *memory, size_t bytes)
{
	(void)context;
	memset(memory, 7, bytes);
	return FLAGSTONE_OK;
}

static bool tiers_entry(void *context, const flagstone_entry *e)
{
	int *kinds = context;
	kinds[e->kind == FS_KindSlab ? 0 : 1]++;
	kinds[2] += strcmp(e->state, "open") == 0;
	return true;
}

static void Entries_Published_AreListed(void)
{
	flagstone *h = test_open(&tiers_options);
	uint64_t segment;
	int kinds[3] = {0};
	expect_ok(flagstone_publish(h, "mine", 10000, tiers_pattern, NULL, &segment));
	expect_ok(flagstone_entries(h, tiers_entry, kinds));
	expect(segment != 0 && kinds[0] == 1 && kinds[1] == 1 && kinds[2] == 2);
	test_end(h);
}
