/* Many threads on one handle: no value is torn, no acknowledged one is lost. */
#include "test.h"

enum { THREADS = 4, THREADS_KEYS = 64, THREADS_ROUNDS = 2000 };

struct threads_work {
	flagstone *h;
	int number;
	_Atomic(int) *wrong;
};

/* A value that says which key it is of, over and over. */
static size_t threads_value(char *value, int key, int round)
{
	size_t n = 0, most = 20 + (size_t)(round * 37 % 400);
	while (n < most)
		n += (size_t)sprintf(value + n, "%d.%d,", key, round);
	return n;
}

static bool threads_whole(const char *value, size_t n, int key)
{
	char one[32];
	int k, round;
	if (sscanf(value, "%d.%d,", &k, &round) != 2 || k != key)
		return false;
	size_t each = (size_t)sprintf(one, "%d.%d,", k, round);
	for (size_t at = 0; at < n; at += each)
		if (n - at < each || memcmp(value + at, one, each) != 0)
			return false;
	return true;
}

static void *threads_run(void *context)
{
	struct threads_work *w = context;
	char k[32], value[1000];
	unsigned seed = (unsigned)w->number;
	for (int i = 0; i < THREADS_ROUNDS; i++) {
		int key = rand_r(&seed) % THREADS_KEYS;
		flagstone_key named = number_key(k, key);
		flagstone_value got = {.buffer = value, .capacity = sizeof value - 1};
		flagstone_status status = FLAGSTONE_OK;
		if (i % 4 == 0) {
			size_t n = threads_value(value, key, i);
			status = flagstone_set(w->h, named, value, n, NULL, NULL);
		} else if (i % 97 == 0) {
			status = flagstone_del(w->h, named);
		} else if ((status = flagstone_get(w->h, named, &got)) == FLAGSTONE_OK) {
			value[got.length] = 0;
			if (!threads_whole(value, got.length, key))
				atomic_fetch_add(w->wrong, 1);
		}
		if (status != FLAGSTONE_OK && status != FLAGSTONE_NO)
			atomic_fetch_add(w->wrong, 1);
		/* What only this thread writes stays. */
		if (i % 16 == 0) {
			sprintf(k, "own-%d", w->number);
			if (flagstone_incr(w->h, text_key(k), 1, 0, NULL, NULL) != FLAGSTONE_OK)
				atomic_fetch_add(w->wrong, 1);
		}
	}
	return NULL;
}

static void Threads_OneHandle_NothingTornNorLost(void)
{
	flagstone_options o = {.entries = 1000, .cell = 64, .max_value = 600, .shards = 2};
	flagstone *h = test_open(&o);
	_Atomic(int) wrong = 0;
	pthread_t threads[THREADS];
	struct threads_work work[THREADS];
	for (int i = 0; i < THREADS; i++) {
		work[i] = (struct threads_work){h, i, &wrong};
		expect(pthread_create(&threads[i], NULL, threads_run, &work[i]) == 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	expect(atomic_load(&wrong) == 0);
	for (int i = 0; i < THREADS; i++) {
		char k[32];
		int64_t sum;
		sprintf(k, "own-%d", i);
		expect_ok(flagstone_incr(h, text_key(k), 0, 0, NULL, &sum));
		expect(sum == THREADS_ROUNDS / 16);
	}
	expect_sound(h);
	test_end(h);
}
