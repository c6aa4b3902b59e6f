/* What goes over many records: scans, evictions, clearing, rebuilds. */
#include "test.h"

static const flagstone_options many_options = {.entries = 8000, .cell = 64, .max_value = 1000, .shards = 4, .precision = 1};

static void many_fill(flagstone *h, int n, uint32_t tag)
{
	char k[200] = "";
	for (int i = 0; i < n; i++) {
		flagstone_write w = {.tag = i % 2 ? tag : 0};
		expect_ok(flagstone_set(h, number_key(k, i), k, (size_t)i % 200, &w, NULL));
	}
}

static int many_left(flagstone *h, int n)
{
	char k[32];
	int left = 0;
	for (int i = 0; i < n; i++)
		left += flagstone_peek(h, number_key(k, i), NULL) == FLAGSTONE_OK;
	return left;
}

struct many_seen {
	unsigned char times[2000];
	int others;
	int stop_after;
};

static bool many_see(void *context, const flagstone_record *r)
{
	struct many_seen *s = context;
	int i;
	char text[32] = "";
	memcpy(text, r->key, r->key_length < 31 ? r->key_length : 31);
	if (sscanf(text, "key-%d", &i) == 1 && i >= 0 && i < 2000 && r->value_length == (size_t)i % 200)
		s->times[i]++;
	else
		s->others++;
	return --s->stop_after != 0;
}

static void Scan_EveryRecord_OnceWithoutIdsAndClaims(void)
{
	flagstone *h = test_open(&many_options);
	static struct many_seen s;
	uint64_t wall;
	memset(&s, 0, sizeof s);
	many_fill(h, 1000, 0);
	expect_ok(flagstone_now(h, &wall, NULL));
	flagstone_write past = {.expiry = wall - 1};
	expect_ok(flagstone_set(h, text_key("gone"), "x", 1, &past, NULL));
	expect_ok(flagstone_set(h, flagstone_scoped("s", 1, "k", 1), "x", 1, NULL, NULL));
	expect_ok(flagstone_claim(h, text_key("claimed"), 10000, NULL, NULL));
	expect_ok(flagstone_scan(h, many_see, &s));
	for (int i = 0; i < 1000; i++)
		expect(s.times[i] == 1);
	expect(s.others == 1);
	memset(&s, 0, sizeof s);
	s.stop_after = 10;
	expect_ok(flagstone_scan(h, many_see, &s));
	expect(s.stop_after == 0);
	test_end(h);
}

static void Scan_MoreRecordsThanCells_BeginsAgain(void)
{
	struct page page = {.most = 2};
	struct found found = {.key_length = 1, .value_length = 1, .version = 1024};
	for (int i = 0; i < 2; i++)
		expect(page_take(&page, &found, 0, "a", "1"));
	expect(!page.endless);
	expect(!page_take(&page, &found, 0, "a", "1") && page.endless);
	page_free(&page);
}

static void Scan_MoveUnderWay_YieldsTheUpperCopyOnly(void)
{
	struct page page = {.most = 4};
	struct found found = {.key_length = 1, .value_length = 1, .version = 1024};
	expect(page_take(&page, &found, 0, "a", "1"));
	page.tier = 1;
	expect(page_take(&page, &found, 0, "a", "2"));
	expect(page_take(&page, &found, 0, "b", "3"));
	found.flags = FS_FlagScoped; /* another key of the same bytes */
	expect(page_take(&page, &found, 0, "a", "4"));
	expect(page.count == 3 && page.item[0].record.tier == 0 && page.bytes[page.item[1].at] == 'b');
	page_free(&page);
}

static void Evict_Cutoff_TakesTheOldestUpToTheLimit(void)
{
	flagstone *h = test_open(&many_options);
	uint64_t removed, domain, later;
	many_fill(h, 500, 0);
	expect_ok(flagstone_now(h, NULL, &domain));
	expect_ok(flagstone_evict(h, domain, 1000, &removed)); /* too young by the slack */
	expect(many_left(h, 500) == 500 - (int)removed);
	do
		expect_ok(flagstone_now(h, NULL, &later));
	while (later < domain + 100);
	char k[32];
	for (int i = 0; i < 10; i++)
		expect_ok(flagstone_set(h, number_key(k, 1000 + i), "young", 5, NULL, NULL));
	uint64_t before = removed;
	expect_ok(flagstone_evict(h, later, 100, &removed));
	expect(removed == 100 && many_left(h, 500) == 500 - (int)before - 100);
	expect_ok(flagstone_evict(h, later, UINT64_MAX, &removed));
	expect(many_left(h, 500) == 0);
	for (int i = 0; i < 10; i++)
		expect(has(h, number_key(k, 1000 + i), "young"));
	expect_sound(h);
	test_end(h);
}

static void many_pass_time(flagstone *h, uint64_t millis)
{
	uint64_t begun, now;
	expect_ok(flagstone_now(h, NULL, &begun));
	do
		expect_ok(flagstone_now(h, NULL, &now));
	while (now < begun + millis);
}

static void Evict_Limit_TakesTheOldestFirst(void)
{
	flagstone *h = test_open(&many_options);
	char k[32];
	uint64_t removed;
	for (int i = 0; i < 60; i++) {
		if (i % 20 == 0)
			many_pass_time(h, 20);
		expect_ok(flagstone_set(h, number_key(k, i * 7 % 20 + i / 20 * 20), "x", 1, NULL, NULL));
	}
	many_pass_time(h, 60);
	expect_ok(flagstone_evict(h, UINT64_MAX, 20, &removed));
	expect(removed == 20 && many_left(h, 20) == 0 && many_left(h, 60) == 40);
	expect_ok(flagstone_evict(h, UINT64_MAX, 20, &removed));
	expect(removed == 20 && many_left(h, 40) == 0 && many_left(h, 60) == 20);
	test_end(h);
}

static void Evict_Tag_TakesAllOfIt(void)
{
	flagstone *h = test_open(&many_options);
	uint64_t removed;
	many_fill(h, 1000, 42);
	expect_ok(flagstone_evict_tag(h, 41, &removed));
	expect(removed == 0);
	expect_ok(flagstone_evict_tag(h, 42, &removed));
	expect(removed == 500 && many_left(h, 1000) == 500);
	expect_status(flagstone_evict_tag(h, 0, &removed), FLAGSTONE_OPTIONS);
	expect_sound(h);
	test_end(h);
}

static void Evict_Near_TakesSoMany(void)
{
	flagstone *h = test_open(&many_options);
	uint64_t removed;
	many_fill(h, 1000, 0);
	expect_ok(flagstone_evict_near(h, text_key("key-5"), 1, &removed));
	expect(removed == 1);
	expect_ok(flagstone_evict_near(h, text_key("key-5"), 50, &removed));
	expect(removed == 50 && many_left(h, 1000) == 949);
	expect_status(flagstone_get(h, text_key("key-5"), NULL), FLAGSTONE_NO);
	expect_sound(h);
	test_end(h);
}

static void Clear_All_LeavesNothingAndEndsClaims(void)
{
	flagstone *h = test_open(&many_options);
	uint64_t removed; /* the claim too */
	flagstone_claimed outcome;
	flagstone_value claim = {0};
	many_fill(h, 1000, 0);
	expect_ok(flagstone_claim(h, text_key("c"), 10000, &outcome, &claim));
	expect(outcome == FLAGSTONE_CLAIM_MINE);
	expect_ok(flagstone_clear(h, &removed));
	expect(removed == 1001 && many_left(h, 1000) == 0);
	expect_status(flagstone_fill(h, text_key("c"), claim.version, "x", 1, NULL, NULL), FLAGSTONE_CLAIMLOST);
	expect_status(flagstone_get(h, text_key("c"), NULL), FLAGSTONE_NO);
	many_fill(h, 1000, 0);
	expect(many_left(h, 1000) == 1000);
	expect_sound(h);
	test_end(h);
}

static void Clear_NewerRecords_Stay(void)
{
	flagstone_options o = many_options;
	o.shards = 1;
	flagstone *h = test_open(&o);
	bool still;
	many_fill(h, 100, 0);
	struct clearing op = {.h = h, .sequence = atomic_load(&stack_view(h->stack)->slab[0]->shards[0].head->Sequence)};
	many_fill(h, 10, 0); /* these are newer */
	expect_ok(clear_pass(&op, &still));
	expect(still && op.removed == 90 && many_left(h, 100) == 10 && many_left(h, 10) == 10);
	test_end(h);
}

static void Namespace_Clear_HidesItsRecordsOnly(void)
{
	flagstone *h = test_open(&many_options);
	static char far[300];
	flagstone_key a = flagstone_scoped("a", 1, "key", 3), b = flagstone_scoped("b", 1, "key", 3), l = flagstone_scoped("a", 1, far, 200);
	expect_status(flagstone_clear_namespace(h, "a", 1), FLAGSTONE_NO);
	expect_status(flagstone_del(h, a), FLAGSTONE_NO);
	expect_ok(flagstone_set(h, a, "in a", 4, NULL, NULL));
	expect_ok(flagstone_set(h, b, "in b", 4, NULL, NULL));
	expect_ok(flagstone_set(h, l, "long", 4, NULL, NULL));
	expect(has(h, a, "in a") && has(h, b, "in b") && has(h, l, "long"));
	expect_ok(flagstone_clear_namespace(h, "a", 1));
	expect_status(flagstone_get(h, a, NULL), FLAGSTONE_NO);
	expect_status(flagstone_replace(h, a, "x", 1, NULL, NULL), FLAGSTONE_NO);
	expect(has(h, b, "in b"));
	expect_ok(flagstone_set(h, a, "again", 5, NULL, NULL));
	expect(has(h, a, "again"));
	expect_status(flagstone_get(h, l, NULL), FLAGSTONE_NO);
	test_end(h);
}

static bool many_count(void *context, const flagstone_stat *s)
{
	*(uint64_t *)context += s->records;
	return true;
}

static void Rebuild_Column_KeepsAllRecords(void)
{
	flagstone *h = test_open(&many_options);
	uint64_t records = 0, mended;
	many_fill(h, 1000, 0);
	expect_ok(flagstone_rebuild(h));
	expect(many_left(h, 1000) == 1000);
	expect_ok(flagstone_stats(h, many_count, &records));
	expect(records == 1000);
	expect_sound(h);
	expect_ok(flagstone_repair(h, &mended));
	expect(mended == 0 && many_left(h, 1000) == 1000);
	test_end(h);
}

static bool many_tell(void *context, const char *text)
{
	*(int *)context += *text != 0;
	return true;
}

static void Rebuild_BrokenIndex_IsMade(void)
{
	flagstone *h = test_open(&many_options);
	many_fill(h, 1000, 0);
	struct slab *slab = stack_view(h->stack)->slab[0];
	for (uint32_t i = 0; i < slab->geometry.shards; i++)
		memset(slab->shards[i].buckets, 0xa5, 1000);
	int n = 0;
	expect_ok(flagstone_check(h, many_tell, &n));
	expect(n > 0);
	expect_ok(flagstone_rebuild(h));
	expect(many_left(h, 1000) == 1000);
	expect_sound(h);
	test_end(h);
}
