/*
 * The C client's side of a benchmark: bench/native.go drives it.
 *
 *	bench DIR DOMAIN KEY VALUE BATCH
 *
 * opens a domain whose keys have KEY bytes and whose values have VALUE, and says "0 0 0". Then it reads lines:
 *
 *	load KEYS VALUES    reads files with the keys of a stream and with their values (- for none), and looks each key up once
 *	get NS | batch NS | set NS    goes through the stream for so many nanoseconds
 *
 * and answers each with "NANOSECONDS KEYS RIGHT", or with what went wrong.
 */
#include "../flagstone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WINDOW = 256, MOST_BATCH = 64 }; /* lookups between two looks at the clock */

struct stream {
	unsigned char *keys, *values;
	size_t count, at;
};

static flagstone *handle;
static size_t key_size, value_size, batch_size;
static struct stream stream;

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static flagstone_key key(size_t i) { return flagstone_bytes(stream.keys + i * key_size, key_size); }

static size_t get(size_t from, size_t count)
{
	static unsigned char buffer[1 << 20];
	flagstone_value value = {.buffer = buffer, .capacity = sizeof buffer};
	size_t right = 0;
	for (size_t i = from; i < from + count; i++)
		right += flagstone_get(handle, key(i), &value) == FLAGSTONE_OK && value.length == value_size;
	return right;
}

static size_t batch(size_t from, size_t count)
{
	static unsigned char buffers[MOST_BATCH][1 << 16];
	flagstone_key keys[MOST_BATCH];
	flagstone_value values[MOST_BATCH];
	size_t right = 0;
	for (size_t done = 0; done < count;) {
		size_t n = count - done < batch_size ? count - done : batch_size;
		for (size_t i = 0; i < n; i++) {
			keys[i] = key(from + done + i);
			values[i].buffer = buffers[i];
			values[i].capacity = sizeof buffers[i];
		}
		if (flagstone_batch(handle, keys, values, n) == FLAGSTONE_OK)
			for (size_t i = 0; i < n; i++)
				right += values[i].status == FLAGSTONE_OK && values[i].length == value_size;
		done += n;
	}
	return right;
}

static size_t set(size_t from, size_t count)
{
	size_t right = 0;
	for (size_t i = from; i < from + count; i++)
		right += flagstone_set(handle, key(i), stream.values + i * value_size, value_size, NULL, NULL) == FLAGSTONE_OK;
	return right;
}

static void play(size_t (*op)(size_t, size_t), int64_t lasting)
{
	int64_t start = now(), elapsed = 0;
	size_t keys = 0, right = 0;
	while (elapsed < lasting) {
		size_t n = stream.count - stream.at < WINDOW ? stream.count - stream.at : WINDOW;
		right += op(stream.at, n);
		keys += n;
		stream.at = (stream.at + n) % stream.count;
		elapsed = now() - start;
	}
	printf("%lld %zu %zu\n", (long long)elapsed, keys, right);
}

/* Reads a file of records of so many bytes, and returns them, or NULL. */
static unsigned char *read_all(const char *path, size_t each, size_t *count)
{
	FILE *file = fopen(path, "rb");
	unsigned char *bytes = NULL;
	long size;
	if (file && !fseek(file, 0, SEEK_END) && (size = ftell(file)) > 0 && !fseek(file, 0, SEEK_SET) && (bytes = malloc((size_t)size)) &&
	    fread(bytes, 1, (size_t)size, file) != (size_t)size) {
		free(bytes);
		bytes = NULL;
	}
	if (bytes)
		*count = (size_t)size / each;
	if (file)
		fclose(file);
	return bytes;
}

static void load(const char *keys, const char *values)
{
	size_t count = 0;
	free(stream.keys);
	free(stream.values);
	memset(&stream, 0, sizeof stream);
	stream.keys = read_all(keys, key_size, &stream.count);
	if (stream.keys && strcmp(values, "-") != 0)
		stream.values = read_all(values, value_size, &count);
	if (!stream.keys || (stream.values ? count != stream.count : strcmp(values, "-") != 0)) {
		printf("cannot read %s and %s: %s\n", keys, values, strerror(errno));
		return;
	}
	printf("0 %zu %zu\n", stream.count, get(0, stream.count));
}

int main(int argc, char **argv)
{
	static char line[8192], keys[4096], values[4096];
	char op[16];
	long long lasting;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 6) {
		fprintf(stderr, "usage: %s DIR DOMAIN KEY VALUE BATCH\n", argv[0]);
		return 2;
	}
	key_size = strtoul(argv[3], NULL, 10);
	value_size = strtoul(argv[4], NULL, 10);
	batch_size = strtoul(argv[5], NULL, 10);
	if (batch_size < 1 || batch_size > MOST_BATCH) {
		fprintf(stderr, "%s: a batch has 1 to %d keys\n", argv[0], MOST_BATCH);
		return 2;
	}
	flagstone_options options = {.attach = true};
	if (flagstone_open(argv[1], argv[2], &options, &handle) != FLAGSTONE_OK) {
		fprintf(stderr, "%s: %s\n", argv[0], flagstone_error_text());
		return 1;
	}
	puts("0 0 0");
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "load %4095s %4095s", keys, values) == 2)
			load(keys, values);
		else if (sscanf(line, "%15s %lld", op, &lasting) != 2 || !stream.count)
			puts("what?");
		else if (strcmp(op, "get") == 0)
			play(get, lasting);
		else if (strcmp(op, "batch") == 0)
			play(batch, lasting);
		else if (strcmp(op, "set") == 0 && stream.values)
			play(set, lasting);
		else
			puts("what?");
	}
	flagstone_close(handle);
	free(stream.keys);
	free(stream.values);
	return 0;
}
