/* What the tests share: each is a function named Area_Case_Effect, listed in unit.c, with a directory of its own. */
#ifndef FLAGSTONE_TEST_H
#define FLAGSTONE_TEST_H

#include "../flagstone.c"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *test_name;
static char test_dir[64];

#define expect(condition)                                                                                               \
	do                                                                                                                  \
		if (!(condition)) {                                                                                             \
			fprintf(stderr, "%s: %s:%d: not so: %s (%s)\n", test_name, __FILE__, __LINE__, #condition, flagstone_error_text()); \
			exit(1);                                                                                                    \
		}                                                                                                               \
	while (0)

/* The call comes to this status. */
#define expect_status(call, wanted)                                                                                     \
	do {                                                                                                                \
		flagstone_status got_ = (call);                                                                                 \
		if (got_ != (wanted)) {                                                                                         \
			fprintf(stderr, "%s: %s:%d: %s is %s and not %s (%s)\n", test_name, __FILE__, __LINE__, #call,                \
			        flagstone_status_name(got_), flagstone_status_name(wanted), flagstone_error_text());                  \
			exit(1);                                                                                                    \
		}                                                                                                               \
	} while (0)

#define expect_ok(call) expect_status(call, FLAGSTONE_OK)

static flagstone_key text_key(const char *s)
{
	return flagstone_bytes(s, strlen(s));
}

static flagstone_key number_key(char *buffer, int i)
{
	return flagstone_bytes(buffer, (size_t)sprintf(buffer, "key-%d", i));
}

static flagstone *test_open(const flagstone_options *options)
{
	flagstone *h;
	expect_ok(flagstone_open(test_dir, "test", options, &h));
	return h;
}

static void test_end(flagstone *h)
{
	flagstone_close(h);
	expect_ok(flagstone_destroy(test_dir, "test"));
}

/* The value of a key is this text. */
static bool has(flagstone *h, flagstone_key key, const char *text)
{
	char buffer[4096];
	flagstone_value value = {.buffer = buffer, .capacity = sizeof buffer};
	return flagstone_get(h, key, &value) == FLAGSTONE_OK && value.length == strlen(text) && memcmp(buffer, text, value.length) == 0;
}

static bool complain(void *context, const char *text)
{
	++*(int *)context;
	fprintf(stderr, "%s: check: %s\n", test_name, text);
	return true;
}

static void expect_sound(flagstone *h)
{
	int n = 0;
	expect_ok(flagstone_check(h, complain, &n));
	expect(n == 0);
}

/* Runs f in a forked child, which opens handles of its own; returns how it ended. */
static int in_child(void (*f)(void *), void *context)
{
	pid_t pid = fork();
	expect(pid >= 0);
	if (pid == 0) {
		f(context);
		_exit(0);
	}
	int status;
	expect(waitpid(pid, &status, 0) == pid);
	return status;
}

/* Processes that have handles, and so threads, fork here: what the children do is checked too. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

#endif
