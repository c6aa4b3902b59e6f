/* Single records: what is set is found, and nothing else. */
#include "test.h"

static const flagstone_options records_options = {.entries = 2000, .cell = 64, .max_value = 3000, .shards = 4};

static void Records_Set_IsFoundUntilDeleted(void)
{
	flagstone *h = test_open(&records_options);
	char k[32];
	uint64_t version, other;
	expect_status(flagstone_get(h, text_key("a"), NULL), FLAGSTONE_NO);
	expect_ok(flagstone_set(h, text_key("a"), "one", 3, NULL, &version));
	expect(has(h, text_key("a"), "one"));
	expect_ok(flagstone_set(h, text_key("a"), "two", 3, NULL, &other));
	expect(other != version);
	expect(has(h, text_key("a"), "two"));
	for (int i = 0; i < 500; i++) {
		flagstone_key key = number_key(k, i);
		expect_ok(flagstone_set(h, key, k, strlen(k), NULL, NULL));
	}
	for (int i = 0; i < 500; i += 2)
		expect_ok(flagstone_del(h, number_key(k, i)));
	for (int i = 0; i < 500; i++) {
		flagstone_key key = number_key(k, i);
		expect(has(h, key, k) == (i % 2 == 1));
	}
	expect_status(flagstone_del(h, text_key("none")), FLAGSTONE_NO);
	expect_sound(h);
	test_end(h);
}

static void Records_Lengths_AreKept(void)
{
	flagstone *h = test_open(&records_options);
	static char in[3001], out[3001];
	for (size_t i = 0; i < sizeof in; i++)
		in[i] = (char)(i * 7 + i / 251);
	for (size_t n = 0; n <= 3000; n += n < 200 ? 1 : 97) {
		flagstone_value value = {.buffer = out, .capacity = sizeof out};
		expect_ok(flagstone_set(h, text_key("long"), in, n, NULL, NULL));
		expect_ok(flagstone_get(h, text_key("long"), &value));
		expect(value.length == n && memcmp(in, out, n) == 0);
	}
	expect_status(flagstone_set(h, text_key("long"), in, 3001, NULL, NULL), FLAGSTONE_VALUETOOLONG);
	expect_status(flagstone_set(h, flagstone_bytes(in, 3000), "", 0, NULL, NULL), FLAGSTONE_KEYTOOLONG);
	flagstone_value small = {.buffer = out, .capacity = 10};
	expect_status(flagstone_get(h, text_key("long"), &small), FLAGSTONE_BUFFER);
	expect(small.length > 2900);
	expect(flagstone_max_value(h) == 3000);
	expect_sound(h);
	test_end(h);
}

static void Records_Conditions_Hold(void)
{
	flagstone *h = test_open(&records_options);
	uint64_t first, second;
	flagstone_key key = text_key("a");
	expect_status(flagstone_replace(h, key, "x", 1, NULL, NULL), FLAGSTONE_NO);
	expect_ok(flagstone_add(h, key, "1", 1, NULL, &first));
	expect_status(flagstone_add(h, key, "2", 1, NULL, NULL), FLAGSTONE_NO);
	expect(has(h, key, "1"));
	expect_ok(flagstone_replace(h, key, "3", 1, NULL, &second));
	expect_status(flagstone_cas(h, key, first, "4", 1, NULL, NULL), FLAGSTONE_NO);
	expect(has(h, key, "3"));
	expect_ok(flagstone_cas(h, key, second, "5", 1, NULL, NULL));
	expect(has(h, key, "5"));
	test_end(h);
}

static void Records_Counters_AddAndRefuse(void)
{
	flagstone *h = test_open(&records_options);
	int64_t sum;
	flagstone_key key = text_key("n");
	expect_ok(flagstone_incr(h, key, 5, 100, NULL, &sum));
	expect(sum == 105);
	expect_ok(flagstone_incr(h, key, -6, 100, NULL, &sum));
	expect(sum == 99);
	expect_ok(flagstone_incr(h, text_key("m"), INT64_MAX, 0, NULL, &sum));
	expect_status(flagstone_incr(h, text_key("m"), 1, 0, NULL, &sum), FLAGSTONE_OVERFLOW);
	expect_ok(flagstone_set(h, text_key("t"), "text", 4, NULL, NULL));
	expect_status(flagstone_incr(h, text_key("t"), 1, 0, NULL, &sum), FLAGSTONE_NOTCOUNTER);
	test_end(h);
}

static void Records_Expiry_EndsAndServesStale(void)
{
	flagstone *h = test_open(&records_options);
	uint64_t wall;
	char buffer[16];
	flagstone_value value = {.buffer = buffer, .capacity = sizeof buffer};
	expect_ok(flagstone_now(h, &wall, NULL));
	flagstone_write past = {.expiry = wall - 1000, .stale = 60, .tag = 7}, future = {.ttl = 100000};
	expect_ok(flagstone_set(h, text_key("past"), "old", 3, &past, NULL));
	expect_ok(flagstone_set(h, text_key("future"), "new", 3, &future, NULL));
	expect_status(flagstone_get(h, text_key("past"), &value), FLAGSTONE_NO);
	expect_ok(flagstone_stale(h, text_key("past"), &value));
	expect(value.expired && value.length == 3 && value.tag == 7 && value.stale == 60 && value.expiry == wall - 1000);
	expect_ok(flagstone_stale(h, text_key("future"), &value));
	expect(!value.expired && value.expiry >= wall + 99000);
	expect_ok(flagstone_touch(h, text_key("future"), wall - 5));
	expect_status(flagstone_get(h, text_key("future"), &value), FLAGSTONE_NO);
	flagstone_write never = {.expiry = FS_ExpiryMask + 1};
	expect_status(flagstone_set(h, text_key("x"), "", 0, &never, NULL), FLAGSTONE_EXPIRY);
	expect_ok(flagstone_add(h, text_key("past"), "again", 5, NULL, NULL));
	expect(has(h, text_key("past"), "again"));
	test_end(h);
}

static void Records_KindsOfKeys_AreDifferent(void)
{
	flagstone *h = test_open(&records_options);
	uint64_t n = 0x1122334455667788;
	expect_ok(flagstone_set(h, flagstone_hash(n), "hash", 4, NULL, NULL));
	expect_status(flagstone_get(h, flagstone_bytes(&n, 8), NULL), FLAGSTONE_NO);
	expect_ok(flagstone_set(h, flagstone_bytes(&n, 8), "bytes", 5, NULL, NULL));
	expect_ok(flagstone_set(h, flagstone_scoped("space", 5, &n, 8), "scoped", 6, NULL, NULL));
	expect_ok(flagstone_set(h, text_key(""), "empty", 5, NULL, NULL));
	expect(has(h, flagstone_hash(n), "hash"));
	expect(has(h, flagstone_bytes(&n, 8), "bytes"));
	expect(has(h, flagstone_scoped("space", 5, &n, 8), "scoped"));
	expect(has(h, text_key(""), "empty"));
	expect_status(flagstone_get(h, flagstone_scoped("other", 5, &n, 8), NULL), FLAGSTONE_NO);
	test_end(h);
}

static void Records_Batch_AnswersKeyByKey(void)
{
	flagstone *h = test_open(&records_options);
	enum { N = 150 };
	static char text[N][32], buffer[N][32];
	flagstone_key keys[N];
	flagstone_value values[N];
	for (int i = 0; i < N; i++) {
		keys[i] = number_key(text[i], i);
		if (i % 7 == 0)
			keys[i] = flagstone_scoped("s", 1, text[i], strlen(text[i]));
		if (i % 3)
			expect_ok(flagstone_set(h, keys[i], text[i], strlen(text[i]), NULL, NULL));
		values[i] = (flagstone_value){.buffer = buffer[i], .capacity = i == 5 ? 2 : sizeof buffer[i]};
	}
	expect_ok(flagstone_batch(h, keys, values, N));
	for (int i = 0; i < N; i++) {
		expect(values[i].status == (i % 3 == 0 ? FLAGSTONE_NO : i == 5 ? FLAGSTONE_BUFFER : FLAGSTONE_OK));
		expect(values[i].status != FLAGSTONE_OK || (values[i].length == strlen(text[i]) && memcmp(buffer[i], text[i], values[i].length) == 0));
	}
	test_end(h);
}

static void Records_FullSlab_EvictsOrRefuses(void)
{
	char k[32];
	for (int order = FLAGSTONE_LRU; order <= FLAGSTONE_S3FIFO; order++) {
		flagstone_options o = {.entries = 300, .cell = 64, .max_value = 100, .shards = 1, .order = (enum flagstone_order)order};
		flagstone *h = test_open(&o);
		for (int i = 0; i < 2000; i++) {
			expect_ok(flagstone_set(h, number_key(k, i), k, 5, NULL, NULL));
			expect(flagstone_get(h, number_key(k, i), NULL) == FLAGSTONE_OK);
		}
		int left = 0;
		for (int i = 0; i < 2000; i++)
			left += flagstone_peek(h, number_key(k, i), NULL) == FLAGSTONE_OK;
		expect(left >= 300 && left < 320);
		expect_sound(h);
		test_end(h);
	}
	flagstone_options o = {.entries = 300, .cell = 64, .max_value = 100, .shards = 1, .full = FLAGSTONE_REFUSE};
	flagstone *h = test_open(&o);
	flagstone_status status = FLAGSTONE_OK;
	int i = 0;
	while (i < 1000 && (status = flagstone_set(h, number_key(k, i), k, 5, NULL, NULL)) == FLAGSTONE_OK)
		i++;
	expect(status == FLAGSTONE_FULL && i >= 300);
	expect_ok(flagstone_set(h, number_key(k, 0), "again", 5, NULL, NULL));
	for (int j = 0; j < i; j++)
		expect(flagstone_peek(h, number_key(k, j), NULL) == FLAGSTONE_OK);
	expect_sound(h);
	test_end(h);
}

static void Records_Reader_FindsAndWritesNothing(void)
{
	flagstone *h = test_open(&records_options), *r;
	flagstone_options o = {.read = true};
	expect_ok(flagstone_set(h, text_key("a"), "1", 1, NULL, NULL));
	expect_ok(flagstone_open(test_dir, "test", &o, &r));
	expect(has(r, text_key("a"), "1"));
	expect_status(flagstone_get(r, text_key("b"), NULL), FLAGSTONE_NO);
	expect_status(flagstone_set(r, text_key("a"), "2", 1, NULL, NULL), FLAGSTONE_READONLY);
	expect_status(flagstone_region(r, NULL, NULL), FLAGSTONE_READONLY);
	flagstone_close(r);
	test_end(h);
}

static void Records_Destroyed_RefusesFurtherWork(void)
{
	flagstone *h = test_open(&records_options);
	expect_ok(flagstone_destroy(test_dir, "test"));
	expect_status(flagstone_destroy(test_dir, "test"), FLAGSTONE_NOTFOUND);
	for (int i = 0; i < 300 && flagstone_get(h, text_key("a"), NULL) != FLAGSTONE_DESTROYED; i++)
		usleep(10000);
	expect_status(flagstone_set(h, text_key("a"), "", 0, NULL, NULL), FLAGSTONE_DESTROYED);
	flagstone_close(h);
	expect_status(flagstone_get(NULL, text_key("a"), NULL), FLAGSTONE_CLOSED);
	flagstone_options o = {.attach = true};
	expect_status(flagstone_open(test_dir, "test", &o, &h), FLAGSTONE_NOTFOUND);
}
