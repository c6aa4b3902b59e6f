/*
 * Any bytes in a slab: wrong answers, misses and errors, but never an access outside, an endless loop or a crash; and after a rebuild the slab is
 * sound. An input is a list of words of 16 bytes: where, and what is stored there; bytes of a slab with some records lie below.
 */
#include "../flagstone.c"

#include <stdio.h>
#include <unistd.h>

static flagstone *cache;
static char dir[] = "/dev/shm/flagstone-fuzz-XXXXXX";
static unsigned char *sound;     /* the slab as it was made */
static struct slab *slab;

static void end(void)
{
	flagstone_close(cache);
	flagstone_destroy(dir, "fuzz");
	rmdir(dir);
	free(sound);
}

static void must(flagstone_status status, const char *what)
{
	if (status == FLAGSTONE_OK)
		return;
	fprintf(stderr, "%s: %s: %s\n", what, flagstone_status_name(status), flagstone_error_text());
	abort();
}

static flagstone_key numbered(char *text, int i)
{
	return flagstone_bytes(text, (size_t)sprintf(text, "key-%d%.*s", i, i % 3 * 20, "a key that is longer than the others of the slab"));
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	flagstone_options options = {.entries = 64, .cell = 64, .max_key = 100, .max_value = 300, .shards = 2, .order = FLAGSTONE_LRU, .patience = 50};
	if (getenv("FUZZ_S3FIFO"))
		options.order = FLAGSTONE_S3FIFO;
	if (!mkdtemp(dir))
		abort();
	must(flagstone_open(dir, "fuzz", &options, &cache), "open");
	char text[100], value[300] = "value";
	for (int i = 0; i < 40; i++)
		must(flagstone_set(cache, numbered(text, i), value, (size_t)i * 7, NULL, NULL), "set");
	must(flagstone_set(cache, flagstone_scoped("space", 5, "key", 3), value, 10, NULL, NULL), "set");
	slab = stack_view(cache->stack)->slab[0];
	sound = malloc(slab->geometry.file_size);
	memcpy(sound, slab->base, slab->geometry.file_size);
	atexit(end);
	return 0;
}

static bool ignore_record(void *context, const flagstone_record *r)
{
	uint64_t *sum = context;
	for (size_t i = 0; i < r->key_length; i++)
		*sum += ((const unsigned char *)r->key)[i];
	for (size_t i = 0; i < r->value_length; i++)
		*sum += ((const unsigned char *)r->value)[i];
	return true;
}

static bool ignore_shard(void *context, const flagstone_shard *s)
{
	*(uint64_t *)context += s->live;
	return true;
}

static bool ignore_text(void *context, const char *text)
{
	*(uint64_t *)context += strlen(text);
	return true;
}

static bool complain(void *context, const char *text)
{
	*(bool *)context = true;
	fprintf(stderr, "after a rebuild: %s\n", text);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[100], buffer[300];
	uint64_t sum = 0, n;
	/* Behind the header, which is read once. */
	memcpy(slab->base + FS_PageSize, sound + FS_PageSize, slab->geometry.file_size - FS_PageSize);
	for (size_t i = 0; i + 16 <= size; i += 16) {
		uint64_t at, word, room = slab->geometry.file_size - FS_PageSize;
		memcpy(&at, data + i, 8);
		memcpy(&word, data + i + 8, 8);
		memcpy(slab->base + FS_PageSize + at % room / 8 * 8, &word, 8);
	}
	flagstone_key keys[40];
	char texts[40][100];
	flagstone_value values[40];
	for (int i = 0; i < 40; i++) {
		keys[i] = numbered(texts[i], i);
		values[i] = (flagstone_value){.buffer = buffer, .capacity = sizeof buffer};
		flagstone_get(cache, keys[i], &values[i]);
	}
	flagstone_batch(cache, keys, values, 40);
	flagstone_scan(cache, ignore_record, &sum);
	flagstone_get(cache, flagstone_scoped("space", 5, "key", 3), &values[0]);
	flagstone_check(cache, ignore_text, &sum);
	switch (size % 8) {
	case 0: flagstone_set(cache, numbered(text, 3), buffer, 250, NULL, NULL); break;
	case 1: flagstone_del(cache, numbered(text, 4)); break;
	case 2: flagstone_evict(cache, UINT64_MAX, 5, &n); break;
	case 3: flagstone_clear(cache, &n); break;
	case 4: flagstone_incr(cache, numbered(text, 5), 1, 1, NULL, NULL); break;
	case 5: flagstone_dump(cache, ignore_shard, ignore_record, &sum); break;
	case 6: flagstone_evict_near(cache, numbered(text, 6), 5, &n); break;
	case 7:
		for (int i = 100; i < 200; i++)
			flagstone_set(cache, numbered(text, i), buffer, 70, NULL, NULL);
	}
	must(flagstone_rebuild(cache), "rebuild");
	bool broken = false;
	must(flagstone_check(cache, complain, &broken), "check");
	if (broken)
		abort();
	must(flagstone_set(cache, numbered(text, 1), "after", 5, NULL, NULL), "set");
	flagstone_value got = {.buffer = buffer, .capacity = sizeof buffer};
	must(flagstone_get(cache, numbered(text, 1), &got), "get");
	if (got.length != 5 || memcmp(buffer, "after", 5) != 0)
		abort();
	return (int)(sum & 0);
}
