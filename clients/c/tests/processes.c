/* Several processes: records are shared, the dead are cleaned up after, a child that was forked has no handle. */
#include "test.h"

static const flagstone_options processes_options = {.entries = 1000, .cell = 64, .max_value = 1000, .shards = 2, .wake = FLAGSTONE_WAKE_FUTEX};

static void processes_write(uint64_t unused)
{
	(void)unused;
	flagstone *h = test_open(NULL);
	char k[32];
	expect(has(h, text_key("parent"), "here"));
	for (int i = 0; i < 100; i++) {
		flagstone_key key = number_key(k, i);
		expect_ok(flagstone_set(h, key, k, strlen(k), NULL, NULL));
	}
	flagstone_close(h);
}

static void Processes_Records_AreShared(void)
{
	flagstone *h = test_open(&processes_options);
	char k[32];
	expect_ok(flagstone_set(h, text_key("parent"), "here", 4, NULL, NULL));
	expect(in_child(processes_write, 0) == 0);
	for (int i = 0; i < 100; i++) {
		flagstone_key key = number_key(k, i);
		expect(has(h, key, k));
	}
	test_end(h);
}

static void processes_hold(uint64_t unused)
{
	(void)unused;
	flagstone *h = test_open(NULL);
	expect_ok(flagstone_hold(h, text_key("a")));
	expect_ok(flagstone_lock(h, 100, NULL));
	kill(getpid(), SIGKILL);
}

static bool processes_peer(void *context, const flagstone_peer *p)
{
	((int *)context)[p->alive]++;
	return true;
}

static void Processes_DeadOwner_LosesItsLocks(void)
{
	flagstone *h = test_open(&processes_options);
	uint64_t reaped;
	bool repair = false;
	expect_ok(flagstone_set(h, text_key("a"), "before", 6, NULL, NULL));
	int status = in_child(processes_hold, 0);
	expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	expect_ok(flagstone_set(h, text_key("b"), "", 0, NULL, NULL));
	expect(has(h, text_key("a"), "before"));
	expect_ok(flagstone_set(h, text_key("a"), "after", 5, NULL, NULL));
	expect(has(h, text_key("a"), "after"));
	expect_ok(flagstone_lock(h, 100, &repair));
	expect(repair);
	expect_ok(flagstone_unlock(h, 100, false));
	expect_status(flagstone_unlock(h, 100, false), FLAGSTONE_NOTHELD);
	expect_ok(flagstone_reap(h, &reaped));
	int peers[2] = {0};
	expect_ok(flagstone_peers(h, processes_peer, peers));
	expect(peers[0] == 0 && peers[1] == 1);
	expect_sound(h);
	test_end(h);
}

static void processes_forked(flagstone *h)
{
	expect_status(flagstone_get(h, text_key("a"), NULL), FLAGSTONE_FORKED);
	expect_status(flagstone_set(h, text_key("a"), "", 0, NULL, NULL), FLAGSTONE_FORKED);
	expect_ok(flagstone_reattach(h));
	expect(has(h, text_key("a"), "parent"));
	expect_ok(flagstone_set(h, text_key("a"), "child", 5, NULL, NULL));
	flagstone_close(h);
}


static void Fork_Child_IsRefusedUntilReattached(void)
{
	flagstone *h = test_open(&processes_options);
	uint32_t before, after, generation;
	expect_ok(flagstone_region(h, &before, &generation));
	expect_ok(flagstone_set(h, text_key("a"), "parent", 6, NULL, NULL));
	expect(in_fork(processes_forked, h) == 0);
	expect(has(h, text_key("a"), "child"));
	expect(in_fork(flagstone_close, h) == 0);
	expect_ok(flagstone_set(h, text_key("a"), "parent", 6, NULL, NULL));
	expect_ok(flagstone_reattach(h));
	expect_ok(flagstone_region(h, &after, NULL));
	expect(before == after && has(h, text_key("a"), "parent"));
	test_end(h);
}

static flagstone *processes_second;

static void processes_two(flagstone *h)
{
	expect_ok(flagstone_reattach(h));
	expect(has(h, text_key("a"), "parent"));
	expect_status(flagstone_get(processes_second, text_key("a"), NULL), FLAGSTONE_FORKED);
	expect_ok(flagstone_reattach(processes_second));
	expect(has(processes_second, text_key("a"), "parent"));
	flagstone_close(h);
	flagstone_close(processes_second);
}

static void Fork_TwoHandles_ComeBackEachByItself(void)
{
	flagstone *h = test_open(&processes_options);
	expect_ok(flagstone_slab(h, NULL, &processes_second));
	expect_ok(flagstone_set(processes_second, text_key("a"), "parent", 6, NULL, NULL));
	expect(in_fork(processes_two, h) == 0);
	flagstone_close(processes_second);
	test_end(h);
}

static void processes_ring(uint64_t region)
{
	flagstone *h = test_open(NULL);
	expect_ok(flagstone_ring(h, (uint32_t)region, 3));
	expect_ok(flagstone_ring(h, (uint32_t)region, 31));
	flagstone_close(h);
}

static void Doorbell_Ring_IsHeard(void)
{
	for (int mode = FLAGSTONE_WAKE_POLL; mode <= FLAGSTONE_WAKE_SIGNAL; mode++) {
		flagstone_options o = processes_options;
		o.wake = (enum flagstone_wake)mode;
		flagstone *h = test_open(&o);
		uint32_t region, reasons;
		expect_ok(flagstone_region(h, &region, NULL));
		expect_status(flagstone_await(h, 3, 10), FLAGSTONE_BUSY);
		expect(in_child(processes_ring, region) == 0);
		expect_ok(flagstone_await(h, 3, 5000));
		expect_ok(flagstone_await(h, 31, 5000));
		expect_ok(flagstone_heard(h, &reasons, NULL));
		expect(reasons == 0);
		test_end(h);
	}
}

static void Steward_Lead_IsOnes(void)
{
	flagstone *h = test_open(&processes_options), *other;
	uint32_t region, mine;
	expect_status(flagstone_steward(h, &region), FLAGSTONE_NO);
	expect_ok(flagstone_lead(h));
	expect_ok(flagstone_region(h, &mine, NULL));
	expect_ok(flagstone_open(test_dir, "test", NULL, &other));
	expect_ok(flagstone_steward(other, &region));
	expect(region == mine);
	expect_status(flagstone_lead(other), FLAGSTONE_NO);
	expect_status(flagstone_resign(other), FLAGSTONE_NO);
	expect_ok(flagstone_resign(h));
	expect_ok(flagstone_lead(other));
	flagstone_close(other);
	expect_status(flagstone_steward(h, &region), FLAGSTONE_NO);
	test_end(h);
}

static bool processes_total(void *context, const flagstone_stat *s)
{
	((uint64_t *)context)[0] += s->records;
	((uint64_t *)context)[1] += s->expired;
	return true;
}

static void Steward_Duties_RemoveTheExpired(void)
{
	flagstone_options o = processes_options;
	o.steward = true;
	flagstone *h = test_open(&o);
	char k[32];
	uint64_t wall, sums[2] = {1, 0};
	expect_ok(flagstone_now(h, &wall, NULL));
	flagstone_write past = {.expiry = wall - 1};
	for (int i = 0; i < 100; i++)
		expect_ok(flagstone_set(h, number_key(k, i), k, 3, i % 2 ? &past : NULL, NULL));
	for (int i = 0; i < 500 && sums[0] != 50; i++) {
		usleep(20000);
		sums[0] = sums[1] = 0;
		expect_ok(flagstone_stats(h, processes_total, sums));
	}
	expect(sums[0] == 50 && sums[1] == 50);
	test_end(h);
}

static bool processes_listed(void *context, const char *name)
{
	*(int *)context += strcmp(name, "test") == 0 ? 1 : 100;
	return true;
}

static void Domains_ListAndCollect_SeeWhatIsThere(void)
{
	flagstone *h = test_open(&processes_options);
	int n = 0;
	uint64_t removed;
	expect_ok(flagstone_list(test_dir, processes_listed, &n));
	expect(n == 1);
	expect_ok(flagstone_gc(test_dir, true, &removed));
	expect(removed == 0);
	flagstone_close(h);
	expect_ok(flagstone_gc(test_dir, false, &removed));
	expect(removed == 0);
	expect_ok(flagstone_gc(test_dir, true, &removed));
	expect(removed == 1);
	n = 0;
	expect_ok(flagstone_list(test_dir, processes_listed, &n));
	expect(n == 0);
}
