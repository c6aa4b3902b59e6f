/*
 * A value that is costly to make, made once for all processes of this host: whoever runs this program again within ten seconds, or at the
 * same time, is given the value that another has computed.
 *
 *	cc example.c $(pkg-config --cflags --libs flagstone) -o example && ./example [DIRECTORY]
 */
#include <flagstone.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Runs in one process at a time; the others wait for it, and one of them takes over at once should it die. */
static flagstone_status compute(void *context, flagstone_key key, void *buffer, size_t capacity, size_t *length, flagstone_write *write)
{
	(void)context;
	int n = snprintf(buffer, capacity, "the answer to %.*s, computed by process %d", (int)key.length, (const char *)key.bytes, (int)getpid());
	*length = (size_t)n;
	write->ttl = 10 * 1000;
	return FLAGSTONE_OK;
}

int main(int argc, char **argv)
{
	char buffer[256];
	flagstone *cache;
	flagstone_options options = {.entries = 10000};
	flagstone_value value = {.buffer = buffer, .capacity = sizeof buffer};

	if (flagstone_open(argc > 1 ? argv[1] : NULL, "example", &options, &cache) != FLAGSTONE_OK) {
		fprintf(stderr, "open: %s\n", flagstone_error_text());
		return 1;
	}
	flagstone_key key = flagstone_bytes("question", strlen("question"));
	if (flagstone_load(cache, key, 1000, compute, NULL, &value) != FLAGSTONE_OK) {
		fprintf(stderr, "load: %s\n", flagstone_error_text());
		return 1;
	}
	printf("%.*s\n", (int)value.length, buffer);
	flagstone_close(cache);
	return 0;
}
