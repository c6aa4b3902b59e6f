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

/*
 * Children are forked by a process that was forked before the test, so that it has no threads: what a child of a process with threads may do is
 * little, and with a sanitizer less. It is told what to run by a pipe, and says how that ended by another.
 */
struct test_order {
	void (*run)(uint64_t argument);
	uint64_t argument;
};

static int test_orders[2], test_results[2];

static void children_serve(void)
{
	struct test_order order;
	while (read(test_orders[0], &order, sizeof order) == sizeof order) {
		int status = -1;
		pid_t pid = fork();
		if (pid == 0) {
			order.run(order.argument);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || write(test_results[1], &status, sizeof status) != sizeof status)
			_exit(1);
	}
	_exit(0);
}

/* Before the test has threads. The server ends with the test. */
static void children_begin(void)
{
	if (pipe(test_orders) < 0 || pipe(test_results) < 0)
		abort();
	if (fork() == 0) {
		close(test_orders[1]);
		children_serve();
	}
	close(test_orders[0]);
}

/* Runs f in a process of its own, which opens its handles; returns how it ended. */
static int in_child(void (*f)(uint64_t), uint64_t argument)
{
	struct test_order order = {f, argument};
	int status = -1;
	expect(write(test_orders[1], &order, sizeof order) == sizeof order);
	expect(read(test_results[0], &status, sizeof status) == sizeof status);
	return status;
}

/* Runs f in a forked child that inherits the handle; its thread is to be asleep, with no lock of the process's allocator. */
static int in_fork(void (*f)(flagstone *), flagstone *h)
{
	uint64_t limit = deadline_in(5000);
	while (!atomic_load(&h->domain->own->Sleeping) && !deadline_over(limit))
		pause_us(100);
	pid_t pid = fork();
	expect(pid >= 0);
	if (pid == 0) {
		f(h);
		_exit(0);
	}
	int status;
	expect(waitpid(pid, &status, 0) == pid);
	return status;
}

#endif
