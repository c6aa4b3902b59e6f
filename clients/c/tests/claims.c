/* Claims: one computes, the others wait, and what was set or deleted meanwhile wins. */
#include "test.h"

static const flagstone_options claims_options = {.entries = 500, .cell = 64, .max_value = 1000, .shards = 2};

static flagstone_claimed claims_take(flagstone *h, const char *key, uint64_t millis, flagstone_value *value)
{
	flagstone_claimed outcome;
	expect_ok(flagstone_claim(h, text_key(key), millis, &outcome, value));
	return outcome;
}

static void Claim_Miss_IsOnesUntilFilled(void)
{
	flagstone *h = test_open(&claims_options);
	char buffer[1000];
	flagstone_value mine = {.buffer = buffer, .capacity = sizeof buffer}, other = mine;
	uint64_t version;
	expect(claims_take(h, "a", 60000, &mine) == FLAGSTONE_CLAIM_MINE);
	expect(claims_take(h, "a", 60000, &other) == FLAGSTONE_CLAIM_HELD);
	expect_status(flagstone_get(h, text_key("a"), NULL), FLAGSTONE_NO);
	expect_status(flagstone_fill(h, text_key("a"), mine.version + 1024, "x", 1, NULL, NULL), FLAGSTONE_CLAIMLOST);
	expect_ok(flagstone_fill(h, text_key("a"), mine.version, "value", 5, NULL, &version));
	expect(has(h, text_key("a"), "value"));
	expect(claims_take(h, "a", 60000, &other) == FLAGSTONE_CLAIM_VALUE);
	expect(other.length == 5 && other.version == version);
	expect_status(flagstone_fill(h, text_key("a"), mine.version, "x", 1, NULL, NULL), FLAGSTONE_CLAIMLOST);
	expect_sound(h);
	test_end(h);
}

static void Claim_SetAndDelete_EndIt(void)
{
	flagstone *h = test_open(&claims_options);
	flagstone_value mine = {0};
	expect(claims_take(h, "a", 60000, &mine) == FLAGSTONE_CLAIM_MINE);
	expect_ok(flagstone_set(h, text_key("a"), "set", 3, NULL, NULL));
	expect_status(flagstone_fill(h, text_key("a"), mine.version, "x", 1, NULL, NULL), FLAGSTONE_CLAIMLOST);
	expect(has(h, text_key("a"), "set"));
	expect(claims_take(h, "b", 60000, &mine) == FLAGSTONE_CLAIM_MINE);
	expect_status(flagstone_del(h, text_key("b")), FLAGSTONE_NO);
	expect_status(flagstone_release(h, text_key("b"), mine.version), FLAGSTONE_CLAIMLOST);
	test_end(h);
}

static void Claim_Deadline_LetsOthersTakeOver(void)
{
	flagstone *h = test_open(&claims_options);
	flagstone_value mine = {0}, other = {0};
	uint64_t begun, now;
	expect(claims_take(h, "a", 50, &mine) == FLAGSTONE_CLAIM_MINE);
	expect_ok(flagstone_now(h, NULL, &begun));
	do
		expect_ok(flagstone_now(h, NULL, &now));
	while (now < begun + 60);
	expect(claims_take(h, "a", 60000, &other) == FLAGSTONE_CLAIM_MINE);
	expect(other.version != mine.version);
	expect_status(flagstone_fill(h, text_key("a"), mine.version, "x", 1, NULL, NULL), FLAGSTONE_CLAIMLOST);
	expect_ok(flagstone_fill(h, text_key("a"), other.version, "value", 5, NULL, NULL));
	test_end(h);
}

static void Claim_Fail_TellsUntil(void)
{
	flagstone *h = test_open(&claims_options);
	char buffer[1000];
	flagstone_value mine = {.buffer = buffer, .capacity = sizeof buffer};
	uint64_t wall;
	expect_ok(flagstone_now(h, &wall, NULL));
	expect(claims_take(h, "a", 60000, &mine) == FLAGSTONE_CLAIM_MINE);
	expect_ok(flagstone_fail(h, text_key("a"), mine.version, "no luck", 7, wall + 60000));
	expect(claims_take(h, "a", 60000, &mine) == FLAGSTONE_CLAIM_FAILED);
	expect(mine.length == 7 && memcmp(buffer, "no luck", 7) == 0);
	expect(claims_take(h, "b", 60000, &mine) == FLAGSTONE_CLAIM_MINE);
	expect_ok(flagstone_fail(h, text_key("b"), mine.version, "", 0, 0));
	expect(claims_take(h, "b", 60000, &mine) == FLAGSTONE_CLAIM_MINE);
	expect_ok(flagstone_release(h, text_key("b"), mine.version));
	expect(claims_take(h, "b", 60000, &mine) == FLAGSTONE_CLAIM_MINE);
	test_end(h);
}

static void Claim_FullRefusingSlab_TakesTheExpiredValuesPlace(void)
{
	flagstone_options o = {.entries = 100, .cell = 128, .max_key = 40, .max_value = 40, .shards = 1, .full = FLAGSTONE_REFUSE};
	flagstone *h = test_open(&o);
	char k[32];
	uint64_t wall;
	flagstone_value mine = {0};
	expect_ok(flagstone_now(h, &wall, NULL));
	flagstone_write past = {.expiry = wall - 1, .stale = 1000};
	expect_ok(flagstone_set(h, text_key("expired"), "old", 3, &past, NULL));
	for (int i = 0; i < 1000 && flagstone_set(h, number_key(k, i), k, 5, NULL, NULL) == FLAGSTONE_OK; i++)
		;
	expect(claims_take(h, "other", 60000, &mine) == FLAGSTONE_CLAIM_NOROOM);
	expect_ok(flagstone_stale(h, text_key("expired"), NULL));
	expect(claims_take(h, "expired", 60000, &mine) == FLAGSTONE_CLAIM_MINE);
	expect_status(flagstone_stale(h, text_key("expired"), NULL), FLAGSTONE_NO);
	expect_ok(flagstone_fill(h, text_key("expired"), mine.version, "new", 3, NULL, NULL));
	expect(has(h, text_key("expired"), "new"));
	expect_sound(h);
	test_end(h);
}

struct claims_work {
	flagstone *h;
	_Atomic(int) computed;
	_Atomic(int) right;
	bool fails;
};

static flagstone_status claims_compute(void *context, flagstone_key key, void *buffer, size_t capacity, size_t *length, flagstone_write *write)
{
	struct claims_work *w = context;
	(void)key;
	(void)write;
	usleep(30000);
	atomic_fetch_add(&w->computed, 1);
	*length = (size_t)snprintf(buffer, capacity, w->fails ? "bad luck" : "computed");
	return w->fails ? FLAGSTONE_FAILED : FLAGSTONE_OK;
}

static void *claims_load(void *context)
{
	struct claims_work *w = context;
	char buffer[1000];
	flagstone_value value = {.buffer = buffer, .capacity = sizeof buffer};
	flagstone_status status = flagstone_load(w->h, text_key(w->fails ? "bad" : "good"), 10000, claims_compute, w, &value);
	if (w->fails ? status == FLAGSTONE_FAILED : status == FLAGSTONE_OK && value.length == 8 && memcmp(buffer, "computed", 8) == 0)
		atomic_fetch_add(&w->right, 1);
	return NULL;
}

static void Load_ManyThreads_ComputeOnce(void)
{
	flagstone *h = test_open(&claims_options);
	struct claims_work w = {.h = h};
	pthread_t threads[8];
	for (int i = 0; i < 8; i++)
		expect(pthread_create(&threads[i], NULL, claims_load, &w) == 0);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	expect(atomic_load(&w.computed) == 1 && atomic_load(&w.right) == 8);
	struct claims_work bad = {.h = h, .fails = true};
	claims_load(&bad);
	expect(atomic_load(&bad.right) == 1);
	test_end(h);
}

static void claims_die(uint64_t unused)
{
	(void)unused;
	flagstone *h = test_open(&claims_options);
	flagstone_claimed outcome;
	expect_ok(flagstone_claim(h, text_key("good"), 600000, &outcome, NULL));
	kill(getpid(), SIGKILL);
}

static void Load_DeadLoader_IsFollowedAtOnce(void)
{
	flagstone *h = test_open(&claims_options);
	struct claims_work w = {.h = h};
	int status = in_child(claims_die, 0);
	expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	uint64_t begun = mono_ns();
	claims_load(&w);
	expect(atomic_load(&w.right) == 1 && mono_ns() - begun < UINT64_C(5000000000));
	test_end(h);
}
