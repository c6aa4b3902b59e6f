/* The thread of a domain object: it waits at the doorbell (section 11) and keeps the clock words going (section 18). */

#define MILLIS UINT64_C(1000000)
enum { QUIET_TICKS = 20 };

/* --- Clock words --- */

static void clock_forward(_Atomic(uint64_t) *clock, uint64_t own)
{
	uint64_t word = atomic_load(clock);
	/* Forward only; further ahead than a leap is garbage, or a stepped clock. */
	while (own > word || word - own > FS_ClockLeapMillis)
		if (atomic_compare_exchange_strong(clock, &word, own))
			return;
}

static void clock_advance(struct domain *d)
{
	if (d->read)
		return;
	clock_forward(&d->header->WallClock, clock_wall_own());
	clock_forward(&d->header->DomainClock, clock_domain_own());
}

/* busy: 1 used since the last tick; 0 not, and the thread ticks; 2 the thread has stopped ticking. */
static void busy_begin(struct domain *d)
{
	if (atomic_load(&d->fate) != FLAGSTONE_OK || d->read)
		return;
	if (atomic_load(&d->busy) == 2)
		clock_advance(d); /* before any thread may take the words for fresh */
	if (atomic_exchange(&d->busy, 1) != 2)
		return;
	atomic_fetch_add(&d->own->Door, 1);
	futex_wake(&d->own->Door, 1, true);
}

/* --- What the thread does --- */

struct rounds { /* when each thing is due, in nanoseconds of the monotonic clock */
	uint64_t tick, publish, look, lead;
	uint64_t changes;
	uint32_t door, quiet;
	bool led;
};

static bool due(uint64_t *when, uint64_t now, uint64_t period)
{
	if (now < *when)
		return false;
	*when = now + period;
	return true;
}

static void columns_disown(struct domain *d, const struct entry *entry)
{
	struct segment *segment;
	uint32_t shards;
	uint64_t offset, stride;
	if (segment_attach(d, entry, &segment) != FLAGSTONE_OK)
		return;
	if (slab_locks(segment, entry, &shards, &offset, &stride) == FLAGSTONE_OK) {
		struct turns *turns = turns_get(d, entry->id, shards);
		for (uint32_t i = 0; turns && i < shards; i++) {
			struct FS_Shard *shard = (struct FS_Shard *)(void *)((unsigned char *)segment->base + offset + i * stride);
			struct lock lock = {&shard->Lock, &shard->Futex, &turns->turn[i]};
			lock_disown(d, lock);
		}
		turns_put(d, turns);
	}
	segment_detach(d, segment);
}

/* ReasonLocks: every word that may name this handle. */
static void service_disown(struct domain *d)
{
	struct entry entry;
	region_put_right(d);
	for (uint32_t i = 0; i < d->shape.mutexes; i++)
		lock_disown(d, mutex_of(d, i));
	for (uint32_t i = 0; i < d->shape.entries; i++)
		if (entry_read(d, i, &entry) && entry_published(&entry) && entry.kind == FS_KindSlab && entry.tier == 0 && entry.stack == entry.id)
			columns_disown(d, &entry);
}

static void service_hear(struct domain *d, uint64_t reasons)
{
	uint32_t application = (uint32_t)(reasons >> 32);
	if (application) {
		atomic_fetch_or(&d->heard, application);
		atomic_fetch_add(&d->news, 1); /* pairs with heard_await's load before it looked */
		futex_wake(&d->news, INT_MAX, false);
	}
	if (reasons & FS_ReasonLocks)
		service_disown(d);
}

static void service_publish(struct domain *d)
{
	turn_take(&d->counting, UINT64_MAX);
	counters_publish(d);
	turn_give(&d->counting);
}

/* Steward's work, for who offered itself: about every 100 ms. */
static void service_lead(struct domain *d, struct rounds *rounds, uint64_t now)
{
	bool leads = steward_leads(d) || steward_lead(d);
	if (leads && (!rounds->led || due(&rounds->lead, now, 1000 * MILLIS))) {
		reap_dead(d);
		entries_finish(d);
	}
	rounds->led = leads;
	if (leads)
		duties_round(d);
}

/* One look at everything that is due. */
static void service_round(struct domain *d, struct rounds *rounds)
{
	uint64_t now = mono_ns();
	uint64_t seen = changes(d);
	if (seen != rounds->changes) {
		rounds->changes = seen;
		stacks_look(d);
	}
	if (atomic_load(&d->busy) != 2 && due(&rounds->tick, now, FS_TickMillis * MILLIS)) {
		clock_advance(d);
		uint32_t idle = 0;
		if (atomic_exchange(&d->busy, 0) == 1)
			rounds->quiet = 0;
		else if (++rounds->quiet >= QUIET_TICKS)
			atomic_compare_exchange_strong(&d->busy, &idle, 2); /* pairs with busy_begin, which wakes where it finds 2 */
	}
	if (!due(&rounds->publish, now, 100 * MILLIS))
		return;
	service_publish(d);
	if (d->options.steward)
		service_lead(d, rounds, now);
	if (!due(&rounds->look, now, 1000 * MILLIS))
		return;
	region_put_right(d);
	domain_look(d);
	stacks_look(d); /* slabs that could not be closed yet */
	if (!d->options.steward)
		steward_leads(d); /* makes way for one that has duties of its own */
}

static uint64_t service_nap(struct domain *d)
{
	if (atomic_load(&d->busy) != 2 || d->options.wake == FS_WakePoll)
		return FS_TickMillis * MILLIS;
	return d->options.steward ? 100 * MILLIS : 1000 * MILLIS;
}

static void signal_nothing(int number) { (void)number; }

/* The thread's number first, the mode last (section 11, Waking by signal). */
static void service_listen(struct domain *d)
{
	sigset_t all;
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	if (d->options.wake == FS_WakeSignal) {
		int number = d->options.wake_signal ? d->options.wake_signal : SIGUSR1;
		sigdelset(&all, number);
		atomic_store(&d->own->WakeSignal, (uint32_t)number);
		atomic_store(&d->own->WakeThread, (uint32_t)syscall(SYS_gettid));
	}
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	atomic_store(&d->own->WakeMode, d->options.wake);
}

static void *service_main(void *context)
{
	struct domain *d = context;
	struct rounds rounds = {.changes = 0};
	service_listen(d);
	atomic_store(&d->listening, 1);
	futex_wake(&d->listening, 1, false);
	while (!atomic_load(&d->stop)) {
		uint32_t seen = atomic_load(&d->own->Door);
		service_hear(d, atomic_exchange(&d->own->Reasons, 0));
		if (domain_ready(d) == FLAGSTONE_OK)
			service_round(d, &rounds);
		uint64_t nap = service_nap(d);
		atomic_store(&d->own->Sleeping, 1);
		/* Pairs with the notifier, which moves Door before it looks at Sleeping. */
		if (atomic_load(&d->own->Door) == seen && !atomic_load(&d->stop))
			futex_wait(&d->own->Door, seen, nap, true);
		atomic_store(&d->own->Sleeping, 0);
	}
	atomic_store(&d->own->WakeMode, FS_WakePoll);
	return NULL;
}

/* A signal that nobody handles yet gets a handler that does nothing: the words are the truth. It stays, as a late signal may come. */
static flagstone_status service_handler(struct domain *d)
{
	int number = d->options.wake_signal ? d->options.wake_signal : SIGUSR1;
	struct sigaction before, action;
	memset(&action, 0, sizeof action);
	action.sa_handler = signal_nothing;
	action.sa_flags = SA_RESTART;
	if (sigaction(number, NULL, &before) != 0)
		return fail_errno("wake by signal %d", number);
	bool nobodys = !(before.sa_flags & SA_SIGINFO) && (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN);
	return !nobodys || sigaction(number, &action, NULL) == 0 ? FLAGSTONE_OK : fail_errno("wake by signal %d", number);
}

static flagstone_status service_start(struct domain *d)
{
	atomic_store(&d->busy, 1);
	atomic_store(&d->stop, 0);
	atomic_store(&d->listening, 0);
	if (d->read)
		return FLAGSTONE_OK;
	flagstone_status status = d->options.wake == FS_WakeSignal ? service_handler(d) : FLAGSTONE_OK;
	if (status != FLAGSTONE_OK)
		return status;
	int error = pthread_create(&d->service, NULL, service_main, d);
	if (error != 0)
		return fail(FLAGSTONE_NOMEMORY, "start the thread of domain %s: %s", d->name, strerror(error));
	d->serving = true;
	/* Who has opened the domain can be rung. */
	while (!atomic_load(&d->listening))
		futex_wait(&d->listening, 0, 100 * MILLIS, false);
	return FLAGSTONE_OK;
}

static void service_stop(struct domain *d)
{
	if (!d->serving)
		return;
	atomic_store(&d->stop, 1);
	atomic_fetch_add(&d->own->Door, 1);
	futex_wake(&d->own->Door, 1, true);
	pthread_join(d->service, NULL);
	d->serving = false;
}

/* --- The application's reasons --- */

static uint32_t heard(struct domain *d, uint32_t mask)
{
	if (!d->read && atomic_load(&d->fate) == FLAGSTONE_OK) /* what the thread has not yet seen */
		service_hear(d, atomic_fetch_and(&d->own->Reasons, UINT32_MAX) & ~(uint64_t)UINT32_MAX);
	return atomic_fetch_and(&d->heard, ~mask) & mask;
}

static flagstone_status heard_await(struct domain *d, uint32_t bit, uint64_t deadline)
{
	if (bit > 31)
		return fail(FLAGSTONE_OPTIONS, "await reason %u of 32", bit);
	for (;;) {
		flagstone_status status = domain_writable(d);
		if (status != FLAGSTONE_OK)
			return status;
		uint32_t seen = atomic_load(&d->news);
		if (heard(d, UINT32_C(1) << bit))
			return FLAGSTONE_OK;
		if (deadline_over(deadline))
			return fail(FLAGSTONE_BUSY, "await reason %u: it has not come", bit);
		uint64_t now = mono_ns(), left = deadline > now ? deadline - now : 0;
		futex_wait(&d->news, seen, left < 1000 * MILLIS ? left : 1000 * MILLIS, false);
	}
}
