/* The control segment: opening, locks, regions, the directory, doorbells, forks; with processes that are killed. */
#include <sched.h>
#include <sys/prctl.h>

static struct domain *domain_test(uint32_t wake)
{
	struct domain_options options = {.create = true, .wake = wake, .patience = 5000};
	struct domain *d;
	expect_ok(domain_open(test_dir, "domain", &options, &d));
	/* Its thread has begun and is asleep: the lock of a sanitizer's allocator that it used at a fork would stay locked in the child. */
	uint64_t limit = deadline_in(5000);
	while (!atomic_load(&d->own->Sleeping) && !deadline_over(limit))
		pause_us(100);
	return d;
}

static void domain_test_end(struct domain *d)
{
	domain_release(d);
	expect_ok(domain_destroy(test_dir, "domain", 0));
}

/* A process of its own with a handle of its own that does what f says, writes a byte to the pipe and waits to be killed. */
static pid_t domain_peer(void (*f)(struct domain *d), uint32_t wake, int *said)
{
	int ends[2];
	expect(pipe(ends) == 0);
	pid_t pid = fork();
	expect(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[0]);
		struct domain *d = domain_test(wake);
		f(d);
		expect(write(ends[1], "+", 1) == 1);
		for (;;)
			pause();
	}
	close(ends[1]);
	char byte;
	expect(read(ends[0], &byte, 1) == 1);
	if (said)
		*said = ends[0];
	else
		close(ends[0]);
	return pid;
}

static void domain_kill(pid_t pid)
{
	int status;
	expect(kill(pid, SIGKILL) == 0);
	expect(waitpid(pid, &status, 0) == pid);
}

static void Domain_Reopen_KeepsHeaderAndGivesANextGeneration(void)
{
	struct domain *d = domain_test(FS_WakePoll);
	uint64_t uuid = d->uuid[0], seed = d->hash_seed;
	expect(d->own && d->token && clock_wall(d) > 1600000000000 && clock_domain(d) > 1);
	struct domain *other = domain_test(FS_WakePoll);
	expect(other->region != d->region && other->uuid[0] == uuid);
	uint32_t region = d->region;
	uint64_t word = atomic_load(&other->header->Changes);
	domain_release(d);
	expect(REGION_STATE(atomic_load(&region_at(other, region)->State)) == FS_RegionFree);
	expect(atomic_load(&other->header->Changes) > word);
	domain_release(other);
	d = domain_test(FS_WakePoll);
	expect(d->uuid[0] == uuid && d->hash_seed == seed);
	domain_test_end(d);
	struct domain_options attach = {.create = false};
	expect_status(domain_open(test_dir, "domain", &attach, &d), FLAGSTONE_NOTFOUND);
}

static void Domain_WiderModes_AreUnsafe(void)
{
	struct domain *d = domain_test(FS_WakePoll);
	domain_release(d);
	char path[128];
	struct domain_options options = {.create = true};
	snprintf(path, sizeof path, "%s/domain.flagstone/v1/control", test_dir);
	expect(chmod(path, 0644) == 0);
	expect_status(domain_open(test_dir, "domain", &options, &d), FLAGSTONE_UNSAFE);
	expect(chmod(path, 0600) == 0);
	d = domain_test(FS_WakePoll);
	domain_test_end(d);
}

static void Domain_DamagedHeader_IsRefusedInOrder(void)
{
	struct domain *d = domain_test(FS_WakePoll);
	char path[128];
	struct domain_options options = {.create = true, .patience = 50};
	snprintf(path, sizeof path, "%s/domain.flagstone/v1/control", test_dir);
	domain_release(d);
	static const struct { size_t offset; flagstone_status status; } damage[] = {
		{offsetof(struct FS_ControlHeader, Magic), FLAGSTONE_MAGIC}, {offsetof(struct FS_ControlHeader, Endian), FLAGSTONE_ENDIAN},
		{offsetof(struct FS_ControlHeader, ReadVersion), FLAGSTONE_VERSION}, {offsetof(struct FS_ControlHeader, Incompatible), FLAGSTONE_FEATURE},
		{offsetof(struct FS_ControlHeader, Fingerprint), FLAGSTONE_FINGERPRINT}, {offsetof(struct FS_ControlHeader, Regions), FLAGSTONE_CHECKSUM},
		{offsetof(struct FS_ControlHeader, Ready), FLAGSTONE_NOTREADY},
	};
	int fd = open(path, O_RDWR | O_CLOEXEC);
	for (size_t i = 0; i < sizeof damage / sizeof damage[0]; i++) {
		unsigned char was, is;
		expect(pread(fd, &was, 1, (off_t)damage[i].offset) == 1);
		is = was ^ 0x40;
		expect(pwrite(fd, &is, 1, (off_t)damage[i].offset) == 1);
		expect_status(domain_open(test_dir, "domain", &options, &d), damage[i].status);
		expect(pwrite(fd, &was, 1, (off_t)damage[i].offset) == 1);
	}
	struct stat file;
	expect(fstat(fd, &file) == 0 && ftruncate(fd, file.st_size + 1) == 0);
	expect_status(domain_open(test_dir, "domain", &options, &d), FLAGSTONE_OVERSIZED);
	expect(ftruncate(fd, file.st_size - 4096) == 0);
	expect_status(domain_open(test_dir, "domain", &options, &d), FLAGSTONE_TRUNCATED);
	close(fd);
	expect_ok(domain_destroy(test_dir, "domain", 0));
}

static void Domain_ManyOpeners_MakeOneDomain(void)
{
	for (int round = 0; round < 5; round++) {
		pid_t pids[4];
		int start[2];
		expect(pipe(start) == 0);
		for (int i = 0; i < 4; i++) {
			pids[i] = fork();
			expect(pids[i] >= 0);
			if (pids[i] == 0) {
				char byte;
				close(start[1]);
				expect(read(start[0], &byte, 1) == 0);
				for (int n = 0; n < 20; n++) {
					struct domain *d = domain_test(FS_WakePoll);
					bool there = domain_in_place(d);
					expect(there || atomic_load(&d->header->Ready) == FS_ControlDestroyed); /* nobody takes another's domain away */
					domain_release(d);
					if (n % 2 == i % 2)
						domain_destroy(test_dir, "domain", 0);
				}
				_exit(0);
			}
		}
		close(start[0]);
		close(start[1]);
		for (int i = 0; i < 4; i++) {
			int status;
			expect(waitpid(pids[i], &status, 0) == pids[i] && status == 0);
		}
	}
	domain_destroy(test_dir, "domain", 0);
}

static void Domain_Destroyed_IsSeenByOthers(void)
{
	struct domain *d = domain_test(FS_WakeFutex);
	expect_ok(domain_ready(d));
	expect_ok(domain_destroy(test_dir, "domain", 0));
	expect_status(domain_ready(d), FLAGSTONE_DESTROYED);
	expect_status(mutex_lock(d, 1, 0, NULL), FLAGSTONE_DESTROYED);
	struct domain *next = domain_test(FS_WakePoll);
	expect(next->uuid[0] != d->uuid[0]);
	domain_release(d);
	domain_test_end(next);
}

static void domain_hold_mutex(struct domain *d)
{
	expect_ok(mutex_lock(d, 70, deadline_in(5000), NULL));
	struct entry entry = {.kind = (uint32_t)FS_KindApplication, .size = 4096};
	expect(entry_reserve(d, &entry)); /* CREATING by one that dies */
	entry_fill(d, &entry);
	expect_ok(segment_make(d, &entry, NULL, NULL));
}

static bool count_alive(void *context, const flagstone_peer *peer)
{
	((int *)context)[peer->alive]++;
	return true;
}

static void Domain_KilledHolder_LosesMutexAndRegion(void)
{
	struct domain *d = domain_test(FS_WakePoll);
	bool repair = true;
	expect_ok(mutex_lock(d, 70, deadline_in(1000), &repair));
	expect(!repair);
	expect_ok(mutex_unlock(d, 70, false));
	expect_status(mutex_unlock(d, 70, false), FLAGSTONE_NOTHELD);
	pid_t pid = domain_peer(domain_hold_mutex, FS_WakePoll, NULL);
	expect_status(mutex_lock(d, 70, deadline_in(20), NULL), FLAGSTONE_BUSY);
	struct entry entry;
	expect(entry_read(d, 0, &entry) && entry.state == FS_EntryCreating && entry.mutex == 0);
	expect(segment_file_exists(d, entry.kind, entry.id));
	domain_kill(pid);
	int alive[2] = {0, 0};
	expect_ok(peers_each(d, count_alive, alive));
	expect(alive[0] == 1 && alive[1] == 1);
	expect_ok(mutex_lock(d, 70, deadline_in(1000), &repair));
	expect(repair && (atomic_load(&mutex_at(d, 70)->Word) & FS_LockInconsistent)); /* for who takes it should this process die too */
	expect_ok(mutex_unlock(d, 70, true));
	expect_ok(mutex_lock(d, 70, 0, &repair));
	expect(repair);
	expect_ok(mutex_unlock(d, 70, false));
	expect_ok(mutex_lock(d, 70, 0, &repair));
	expect(!repair);
	expect_ok(mutex_unlock(d, 70, false));
	expect(reap_dead(d) == 1 && reap_dead(d) == 0);
	expect(!segment_file_exists(d, entry.kind, entry.id));
	expect(!entry_read(d, 0, &entry));
	uint64_t counters[32];
	counters_total(d, counters);
	expect(counters[FS_CounterSteals] == 1);
	domain_test_end(d);
}

struct domain_threads {
	struct domain *d;
	_Atomic(uint64_t) *shared; /* relaxed: the mutex is all that keeps the adders apart */
};

static void *domain_add(void *context)
{
	struct domain_threads *t = context;
	for (int i = 0; i < 2000; i++) {
		expect_ok(mutex_lock(t->d, 90, deadline_in(20000), NULL));
		uint64_t n = atomic_load_explicit(t->shared, memory_order_relaxed);
		if (i % 16 == 0)
			sched_yield();
		atomic_store_explicit(t->shared, n + 1, memory_order_relaxed);
		expect_ok(mutex_unlock(t->d, 90, false));
	}
	return NULL;
}

static void Domain_Mutex_ExcludesThreadsOfTwoHandles(void)
{
	struct domain *a = domain_test(FS_WakePoll), *b = domain_test(FS_WakePoll);
	_Atomic(uint64_t) shared = 0;
	struct domain_threads ta = {a, &shared}, tb = {b, &shared};
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		expect(pthread_create(&threads[i], NULL, domain_add, i % 2 ? &ta : &tb) == 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	expect(atomic_load(&shared) == 8000);
	domain_release(b);
	domain_test_end(a);
}

static _Atomic(uint64_t) *domain_shared; /* in memory of all processes */

static void domain_add_shared(struct domain *d)
{
	for (int i = 0; i < 500; i++) {
		expect_ok(mutex_lock(d, 91, deadline_in(20000), NULL));
		uint64_t n = atomic_load_explicit(domain_shared, memory_order_relaxed);
		if (i % 16 == 0)
			sched_yield();
		atomic_store_explicit(domain_shared, n + 1, memory_order_relaxed);
		expect_ok(mutex_unlock(d, 91, false));
	}
}

static void Domain_Mutex_ExcludesProcesses(void)
{
	domain_shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[3];
	for (int i = 0; i < 3; i++) {
		pids[i] = fork(); /* before there are threads */
		expect(pids[i] >= 0);
		if (pids[i] == 0) {
			struct domain *own = domain_test(FS_WakePoll);
			domain_add_shared(own);
			domain_release(own);
			_exit(0);
		}
	}
	struct domain *d = domain_test(FS_WakePoll);
	domain_add_shared(d);
	for (int i = 0; i < 3; i++) {
		int status;
		expect(waitpid(pids[i], &status, 0) == pids[i] && status == 0);
	}
	expect(atomic_load(domain_shared) == 2000);
	munmap((void *)domain_shared, 4096);
	domain_test_end(d);
}

static void Domain_ForeignTokenInWord_IsDisowned(void)
{
	struct domain *a = domain_test(FS_WakeFutex), *b = domain_test(FS_WakeFutex);
	bool repair = false;
	atomic_store(&mutex_at(a, 80)->Word, b->token); /* by somebody's error */
	expect_ok(mutex_lock(a, 80, deadline_in(5000), &repair));
	expect(repair);
	expect_ok(mutex_unlock(a, 80, false));
	expect_ok(mutex_lock(b, 81, 0, NULL));
	expect_status(mutex_lock(a, 81, deadline_in(400), NULL), FLAGSTONE_BUSY); /* held in truth: never disowned */
	expect_ok(mutex_unlock(b, 81, false));
	domain_release(b);
	domain_test_end(a);
}

static void Domain_OverwrittenOwner_IsLost(void)
{
	struct domain *a = domain_test(FS_WakePoll);
	expect_ok(mutex_lock(a, 82, 0, NULL));
	atomic_store(&mutex_at(a, 82)->Word, UINT64_C(77) << 32 | UINT64_C(9) << 16);
	expect_status(mutex_unlock(a, 82, false), FLAGSTONE_LOST);
	expect_status(mutex_lock(a, 83, 0, NULL), FLAGSTONE_LOST);
	domain_test_end(a);
}

static flagstone_status domain_fill(void *context, void *base, size_t size, uint64_t id)
{
	(void)context;
	((uint64_t *)base)[0] = id;
	((unsigned char *)base)[size - 1] = 7;
	return FLAGSTONE_OK;
}

static struct entry domain_published(struct domain *d, const char *name)
{
	struct entry entry = {.kind = (uint32_t)FS_KindApplication, .size = 3 * 4096, .name_length = strlen(name)};
	memcpy(entry.name, name, strlen(name));
	expect_ok(publish(d, &entry, domain_fill, NULL));
	return entry;
}

static void Domain_Segment_LivesUntilNobodyMapsIt(void)
{
	struct domain *a = domain_test(FS_WakePoll), *b = domain_test(FS_WakePoll);
	uint64_t before = changes(a);
	struct entry entry = domain_published(a, "one");
	expect(entry.state == FS_EntryOpen && changes(a) > before && entry_takes(b, &entry));
	struct segment *in_a, *again, *in_b;
	expect_ok(segment_attach(a, &entry, &in_a));
	expect_ok(segment_attach(a, &entry, &again));
	expect(again == in_a && *(uint64_t *)in_a->base == entry.id);
	expect_ok(segment_attach(b, &entry, &in_b));
	uint64_t drain, reopened;
	expect_ok(entry_drain(a, entry.number, entry.generation, &drain));
	expect(!entry_takes(b, &entry));
	expect_ok(entry_reopen(b, entry.number, drain));
	expect_status(entry_retire(a, entry.number, drain), FLAGSTONE_STATE); /* that drain is over */
	expect_ok(entry_drain(a, entry.number, entry.generation, &reopened));
	expect(reopened != drain);
	expect_ok(entry_retire(a, entry.number, reopened));
	expect(!segment_file_exists(a, entry.kind, entry.id));
	struct entry now;
	expect(entry_read(a, entry.number, &now) && now.state == FS_EntryRetired);
	segment_detach(a, in_a);
	segment_detach(a, again);
	expect(entry_read(a, entry.number, &now)); /* b maps it */
	expect(*(uint64_t *)in_b->base == entry.id);
	segment_blank(b, in_b);
	expect(!entry_read(a, entry.number, &now));
	struct entry second = domain_published(b, "two");
	expect(second.number == entry.number && second.generation == entry.generation + 1);
	expect_status(segment_attach(a, &entry, &in_a), FLAGSTONE_RETIRED);
	domain_release(b);
	domain_test_end(a);
}

static void Domain_FullDirectory_IsNoEntry(void)
{
	struct domain_options options = {.create = true, .entries = 3, .mutexes = 3, .mapped = 2};
	struct domain *d;
	expect_ok(domain_open(test_dir, "domain", &options, &d));
	struct entry entries[3], more = {.kind = (uint32_t)FS_KindApplication, .size = 4096};
	struct segment *segments[3];
	for (int i = 0; i < 3; i++)
		entries[i] = domain_published(d, "some");
	expect_status(publish(d, &more, NULL, NULL), FLAGSTONE_NOENTRY);
	expect_ok(segment_attach(d, &entries[0], &segments[0]));
	expect_ok(segment_attach(d, &entries[1], &segments[1]));
	expect_status(segment_attach(d, &entries[2], &segments[2]), FLAGSTONE_TOOMANYMAPPED);
	segment_detach(d, segments[0]);
	segment_detach(d, segments[1]);
	domain_test_end(d);
}

static void Domain_TruncatedSegment_IsAFault(void)
{
	struct domain *d = domain_test(FS_WakePoll), *other = domain_test(FS_WakePoll);
	struct entry entry = domain_published(d, "fault");
	struct segment *segment;
	expect_ok(segment_attach(d, &entry, &segment));
	int fd = openat(d->version_fd, segment_name(entry.kind, entry.id).text, O_RDWR | O_CLOEXEC);
	expect(fd >= 0 && ftruncate(fd, 4096) == 0);
	close(fd);
	expect_ok(domain_ready(d));
	volatile unsigned char *bytes = segment->base;
	expect(bytes[2 * 4096] == 0);
	expect_status(domain_ready(d), FLAGSTONE_FAULT);
	expect_ok(domain_ready(other));
	segment_detach(d, segment);
	domain_release(other);
	domain_test_end(d);
}

static int domain_pipe[2];
static _Atomic(int) domain_signals;

static void domain_count_signal(int number)
{
	(void)number;
	atomic_fetch_add(&domain_signals, 1);
}

static void domain_await_bit(struct domain *d)
{
	expect(write(domain_pipe[1], &d->region, sizeof d->region) == sizeof d->region);
	expect_ok(heard_await(d, 5, deadline_in(10000)));
}

/* The peer says its byte only when the reason has come; for signals the service thread of the child sleeps for a second at a time. */
static void domain_rings(uint32_t wake, bool signal)
{
	struct domain *d = domain_test(FS_WakePoll);
	int ends[2];
	expect(pipe(domain_pipe) == 0 && pipe(ends) == 0);
	pid_t pid = fork();
	expect(pid >= 0);
	if (pid == 0) {
		struct sigaction action = {.sa_handler = domain_count_signal};
		expect(sigaction(SIGUSR1, &action, NULL) == 0);
		struct domain *own = domain_test(wake);
		domain_await_bit(own);
		expect(!signal || atomic_load(&domain_signals) == 1);
		expect(write(ends[1], "+", 1) == 1);
		domain_release(own);
		domain_release(d);
		_exit(0);
	}
	close(ends[1]); /* a child that fails ends the read below */
	uint32_t region;
	expect(read(domain_pipe[0], &region, sizeof region) == sizeof region);
	struct FS_Region *r = region_at(d, region);
	uint64_t limit = deadline_in(5000);
	while ((atomic_load(&r->WakeMode) != wake || !atomic_load(&r->Sleeping)) && !deadline_over(limit))
		pause_us(100);
	expect(atomic_load(&r->WakeMode) == wake && (!signal || atomic_load(&r->WakeThread) != atomic_load(&r->Pid)));
	expect_ok(ring(d, region, FS_ReasonApplication << 5));
	char byte;
	expect(read(ends[0], &byte, 1) == 1);
	int status;
	expect(waitpid(pid, &status, 0) == pid && status == 0);
	close(ends[0]);
	close(domain_pipe[0]);
	close(domain_pipe[1]);
	domain_test_end(d);
}

static void Domain_Ring_WakesByPollFutexAndSignal(void)
{
	domain_rings(FS_WakePoll, false);
	domain_rings(FS_WakeFutex, false);
	domain_rings(FS_WakeSignal, true);
}

static void Domain_ForkedChild_IsRefusedAndReattaches(void)
{
	struct domain *d = domain_test(FS_WakePoll);
	struct entry entry = domain_published(d, "fork");
	struct segment *segment;
	expect_ok(segment_attach(d, &entry, &segment));
	int lease = d->control_fd;
	pid_t pid = fork();
	expect(pid >= 0);
	if (pid == 0) {
		expect(fcntl(lease, F_GETFD) == -1); /* the child keeps nobody's lease */
		expect_status(domain_ready(d), FLAGSTONE_FORKED);
		expect_status(mutex_lock(d, 1, 0, NULL), FLAGSTONE_FORKED);
		uint32_t region = d->region, life = d->life;
		expect_ok(domain_reattach(d));
		expect(d->region != region && d->life == life + 1);
		segment_detach(d, segment);
		expect_ok(segment_attach(d, &entry, &segment));
		expect(*(uint64_t *)segment->base == entry.id);
		expect_ok(mutex_lock(d, 1, 0, NULL));
		expect_ok(mutex_unlock(d, 1, false));
		segment_detach(d, segment);
		domain_release(d);
		_exit(0);
	}
	int status;
	expect(waitpid(pid, &status, 0) == pid && status == 0);
	expect_ok(domain_ready(d));
	expect(byte_held(d->control_fd, FS_LeaseByte + d->region, 1) == false); /* through the descriptor that holds it */
	expect(*(uint64_t *)segment->base == entry.id);
	segment_detach(d, segment);
	domain_test_end(d);
}

static pid_t domain_grandchild;

/* A child without exec of the peer keeps the peer's lease: it hangs around with the descriptor, not through this client. */
static void domain_leave_lease(struct domain *d)
{
	expect_ok(mutex_lock(d, 75, 0, NULL));
	domain_grandchild = (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L); /* no fork handlers: the descriptors stay open */
	if (domain_grandchild == 0) {
		alarm(60); /* should the test fail before it ends it */
		for (;;)
			pause();
	}
	expect(write(domain_pipe[1], &domain_grandchild, sizeof domain_grandchild) == sizeof domain_grandchild);
}

static void Domain_LeaseKeptByAChild_DoesNotKeepTheLock(void)
{
	struct domain *d = domain_test(FS_WakePoll);
	expect(pipe(domain_pipe) == 0);
	pid_t pid = domain_peer(domain_leave_lease, FS_WakePoll, NULL);
	pid_t child;
	expect(read(domain_pipe[0], &child, sizeof child) == sizeof child);
	domain_kill(pid);
	expect(reap_dead(d) == 0); /* quarantine: the lease is held */
	bool repair = false;
	expect_ok(mutex_lock(d, 75, deadline_in(5000), &repair));
	expect(repair);
	expect_ok(mutex_unlock(d, 75, false));
	expect(kill(child, SIGKILL) == 0);
	uint64_t limit = deadline_in(5000);
	while (reap_dead(d) == 0 && !deadline_over(limit))
		pause_us(1000);
	int alive[2] = {0, 0};
	expect_ok(peers_each(d, count_alive, alive));
	expect(alive[0] == 0 && alive[1] == 1);
	close(domain_pipe[0]);
	close(domain_pipe[1]);
	domain_test_end(d);
}

static void Domain_Steward_IsOneAndResigns(void)
{
	struct domain *a = domain_test(FS_WakePoll), *b = domain_test(FS_WakePoll);
	uint32_t who;
	expect(!steward_who(a, &who) && steward_lead(a) && steward_lead(a) && !steward_lead(b));
	expect(steward_who(b, &who) && who == a->region && steward_who(a, &who) && who == a->region);
	expect(!steward_resign(b) && steward_resign(a) && !steward_who(b, &who));
	expect(steward_lead(b));
	domain_release(b);
	expect(!steward_who(a, &who) && steward_lead(a));
	domain_test_end(a);
}

static void Domain_OverwrittenIdentity_IsPutRight(void)
{
	struct domain *a = domain_test(FS_WakeFutex), *b = domain_test(FS_WakePoll);
	atomic_store(&a->own->Pid, 1);
	atomic_store(&a->own->State, 99);
	expect_ok(ring(b, b->region, FS_ReasonTable));
	doorbell_ring(b, a->region, FS_ReasonLocks);
	uint64_t limit = deadline_in(5000);
	while (atomic_load(&a->own->State) == 99 && !deadline_over(limit))
		pause_us(1000);
	expect(atomic_load(&a->own->State) >> 32 == a->generation && atomic_load(&a->own->Pid) == (uint32_t)getpid());
	domain_release(b);
	domain_test_end(a);
}

static bool domain_print(void *context, const char *text)
{
	++*(int *)context;
	(void)text;
	return true;
}

static void Domain_Repair_MendsWhatCheckFinds(void)
{
	struct domain *d = domain_test(FS_WakePoll);
	struct entry entry = domain_published(d, "right");
	int n = 0;
	control_check(d, domain_print, &n);
	expect(n == 0);
	atomic_store(&entry_at(d, entry.number)->Size, 1);
	atomic_store(&d->header->HashSeed, 1);
	atomic_store(entry_state(d, entry.number + 1), ENTRY_WORD(3, 0, 9));
	int fd = openat(d->version_fd, "app-00000000000000aa", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	expect(fd >= 0);
	close(fd);
	control_check(d, domain_print, &n);
	expect(n == 4);
	uint64_t mended;
	expect_ok(control_repair(d, &mended));
	expect(mended == 4 && atomic_load(&d->header->HashSeed) == d->hash_seed);
	n = 0;
	control_check(d, domain_print, &n);
	expect(n == 0);
	domain_test_end(d);
}

static void Domain_Collect_RemovesDebrisAndKeepsWhatIsUsed(void)
{
	char path[160];
	struct domain *d = domain_test(FS_WakePoll);
	uint64_t removed;
	snprintf(path, sizeof path, "%s/debris.flagstone", test_dir);
	expect(mkdir(path, 0700) == 0);
	snprintf(path, sizeof path, "%s/debris.flagstone/v1", test_dir);
	expect(mkdir(path, 0700) == 0);
	snprintf(path, sizeof path, "%s/domain.flagstone/.v1.0123456789abcdef", test_dir);
	expect(mkdir(path, 0700) == 0);
	int fd = openat(d->version_fd, "slab-00000000000000aa", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	expect(fd >= 0);
	close(fd);
	expect_ok(domain_collect(test_dir, false, &removed));
	expect(removed == 3);
	expect_ok(domain_collect(test_dir, false, &removed));
	expect(removed == 0);
	expect_ok(domain_ready(d));
	snprintf(path, sizeof path, "%s/debris.flagstone", test_dir);
	expect(access(path, F_OK) != 0);
	expect_ok(domain_collect(test_dir, true, &removed)); /* in use */
	expect(removed == 0);
	expect_ok(domain_ready(d));
	domain_release(d);
	expect_ok(domain_collect(test_dir, false, &removed)); /* in order, somebody may want it */
	expect(removed == 0);
	expect_ok(domain_collect(test_dir, true, &removed));
	expect(removed == 1);
}
