/* What the kernel is asked: clocks, random numbers, futexes, lock bytes, who a process is. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#define PIDFD_OF_THREAD O_EXCL

/* --- Clocks --- */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t mono_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* One's own clocks in the units of the clock words (section 18). */
static uint64_t clock_wall_own(void) { return clock_ns(CLOCK_REALTIME) / 1000000; }
static uint64_t clock_domain_own(void) { return clock_ns(CLOCK_MONOTONIC) / 1000000 + 1; }

static uint64_t deadline_in(uint32_t millis) { return millis ? mono_ns() + (uint64_t)millis * 1000000 : 0; }

static bool deadline_over(uint64_t deadline)
{
	return deadline != UINT64_MAX && (deadline == 0 || mono_ns() >= deadline);
}

static void pause_us(uint32_t micros)
{
	struct timespec time = {micros / 1000000, (long)(micros % 1000000) * 1000};
	nanosleep(&time, NULL);
}

/* --- Random numbers --- */

/* Where the kernel has none to give yet (early in a boot) it waits; there is no other failure for so few bytes. */
static uint64_t random_word(void)
{
	uint64_t word = 0;
	while (word == 0)
		if (getrandom(&word, sizeof word, 0) != (ssize_t)sizeof word)
			word = 0;
	return word;
}

/* --- Futexes --- */

/* Sleeps while *word is seen, for at most so many nanoseconds. shared: other processes wake. */
static void futex_wait(_Atomic(uint32_t) *word, uint32_t seen, uint64_t nanos, bool shared)
{
	struct timespec time = {(time_t)(nanos / 1000000000), (long)(nanos % 1000000000)};
	syscall(SYS_futex, word, shared ? FUTEX_WAIT : FUTEX_WAIT | FUTEX_PRIVATE_FLAG, seen, &time, NULL, 0);
}

static void futex_wake(_Atomic(uint32_t) *word, int waiters, bool shared)
{
	syscall(SYS_futex, word, shared ? FUTEX_WAKE : FUTEX_WAKE | FUTEX_PRIVATE_FLAG, waiters, NULL, NULL, 0);
}

/* --- Lock bytes (section 7) --- */

static struct flock byte_range(short type, uint64_t byte, uint64_t bytes)
{
	struct flock range;
	memset(&range, 0, sizeof range);
	range.l_type = type;
	range.l_whence = SEEK_SET;
	range.l_start = (off_t)byte;
	range.l_len = (off_t)bytes;
	return range;
}

/* 1: taken; 0: another has it; -1: errno. */
static int byte_take_range(int fd, uint64_t byte, uint64_t bytes)
{
	struct flock range = byte_range(F_WRLCK, byte, bytes);
	if (fcntl(fd, F_OFD_SETLK, &range) == 0)
		return 1;
	return errno == EAGAIN || errno == EACCES ? 0 : -1;
}

static int byte_take(int fd, uint64_t byte) { return byte_take_range(fd, byte, 1); }

static void byte_give(int fd, uint64_t byte, uint64_t bytes)
{
	struct flock range = byte_range(F_UNLCK, byte, bytes);
	fcntl(fd, F_OFD_SETLK, &range);
}

/* Does another description hold one of the bytes? Where the kernel does not say, yes: nobody is dead by a failed question. */
static bool byte_held(int fd, uint64_t byte, uint64_t bytes)
{
	struct flock range = byte_range(F_WRLCK, byte, bytes);
	return fcntl(fd, F_OFD_GETLK, &range) != 0 || range.l_type != F_UNLCK;
}

/* --- Who a process is (section 9, Identity) --- */

/* Reads a small file of /proc or /sys; the bytes read, ended by a zero, -1 where there is none. */
static ssize_t proc_read(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	size_t length = 0;
	for (ssize_t n; length < size - 1 && (n = read(fd, text + length, size - 1 - length)) > 0;)
		length += (size_t)n;
	close(fd);
	text[length] = 0;
	return (ssize_t)length;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The 16 bytes of the kernel's boot id, in the order of its text. */
static bool boot_id(uint64_t id[2])
{
	char text[64];
	unsigned char bytes[16];
	size_t digits = 0;
	if (proc_read("/proc/sys/kernel/random/boot_id", text, sizeof text) < 36)
		return false;
	for (const char *c = text; *c && digits < 32; c++) {
		int digit = hex_digit(*c);
		if (digit < 0)
			continue;
		bytes[digits / 2] = (unsigned char)(digits % 2 ? bytes[digits / 2] << 4 | digit : digit);
		digits++;
	}
	memcpy(id, bytes, sizeof bytes);
	return digits == 32;
}

static uint64_t namespace_inode(const char *path)
{
	struct stat status;
	return stat(path, &status) == 0 ? (uint64_t)status.st_ino : 0;
}

/* Field 22 of /proc/PID/stat, behind the name, which may hold anything; 0 where there is none. state: field 3. */
static uint64_t start_ticks(uint32_t pid, char *state)
{
	char path[48], text[1024];
	snprintf(path, sizeof path, "/proc/%u/stat", pid);
	if (proc_read(path, text, sizeof text) < 0)
		return 0;
	const char *field = strrchr(text, ')');
	if (!field)
		return 0;
	if (state)
		*state = field[1] == ' ' ? field[2] : 0;
	field++;
	for (int n = 3; n < 22 && field; n++)
		field = strchr(field + 1, ' ');
	return field ? strtoull(field, NULL, 10) : 0;
}

static int pidfd_of(uint32_t pid, unsigned flags)
{
	return (int)syscall(SYS_pidfd_open, (long)pid, flags);
}

#define PIDFS_MAGIC 0x50494446

/* The inode by which a pidfd names its process for good; 0 where all pidfds of the kernel share one (no pidfs). */
static uint64_t pidfd_inode(int pidfd)
{
	struct statfs system;
	struct stat status;
	if (fstatfs(pidfd, &system) != 0 || system.f_type != PIDFS_MAGIC || fstat(pidfd, &status) != 0)
		return 0;
	return (uint64_t)status.st_ino;
}

static void identity_own(struct identity *self)
{
	memset(self, 0, sizeof *self);
	boot_id(self->boot);
	self->pid_namespace = namespace_inode("/proc/self/ns/pid");
	self->pid = (uint32_t)getpid();
	self->uid = (uint32_t)geteuid();
	self->ticks = start_ticks(self->pid, NULL);
	int pidfd = pidfd_of(self->pid, 0);
	if (pidfd >= 0) {
		self->inode = pidfd_inode(pidfd);
		close(pidfd);
	}
	self->instance[0] = random_word();
	self->instance[1] = random_word();
}

/* Is /proc that of one's own pid namespace? Then it has this process under its own number. */
static bool proc_is_own(void)
{
	char link[32];
	ssize_t length = readlink("/proc/self", link, sizeof link - 1);
	if (length <= 0)
		return false;
	link[length] = 0;
	return strtoul(link, NULL, 10) == (unsigned long)getpid();
}
