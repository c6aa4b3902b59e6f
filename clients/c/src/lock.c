/* Locks (section 12): a lock word, a futex word, and in front of them the turn of this process. */
#include <limits.h>

enum { NAP_NS = 1000000, NAP_MOST_NS = 4000000, ASK_NS = 100000000 };

/* --- Turns: a mutex among the threads of this process that any thread may give back --- */

static bool turn_take(struct turn *turn, uint64_t deadline)
{
	uint32_t word = 0;
	if (likely(atomic_compare_exchange_strong(&turn->word, &word, 1)))
		return true;
	if (deadline_over(deadline))
		return false;
	for (;;) { /* who was woken looks before it gives up: nobody else is woken */
		if (atomic_exchange(&turn->word, 2) == 0)
			return true;
		if (deadline_over(deadline))
			return false;
		uint64_t now = mono_ns(), left = deadline > now ? deadline - now : 0;
		futex_wait(&turn->word, 2, left < 1000000000 ? left : 1000000000, false);
	}
}

static void turn_give(struct turn *turn)
{
	if (atomic_exchange(&turn->word, 0) == 2)
		futex_wake(&turn->word, 1, false);
}

static struct turn *turns_make(size_t count)
{
	struct turn *turns = aligned_alloc(_Alignof(struct turn), count * sizeof *turns);
	if (turns)
		memset(turns, 0, count * sizeof *turns);
	return turns;
}

static struct turns *turns_get(struct domain *d, uint64_t id, uint32_t count)
{
	pthread_mutex_lock(&d->lists);
	struct turns *turns = d->turns;
	while (turns && (turns->id != id || turns->count != count))
		turns = turns->next;
	if (!turns) {
		size_t size = sizeof *turns + count * sizeof turns->turn[0];
		turns = aligned_alloc(_Alignof(struct turns), size);
		if (turns) {
			memset(turns, 0, size);
			turns->id = id;
			turns->count = count;
			turns->next = d->turns;
			d->turns = turns;
		}
	}
	if (turns)
		turns->users++;
	pthread_mutex_unlock(&d->lists);
	return turns;
}

static void turns_put(struct domain *d, struct turns *turns)
{
	if (!turns)
		return;
	pthread_mutex_lock(&d->lists);
	if (--turns->users == 0) {
		struct turns **link = &d->turns;
		while (*link && *link != turns)
			link = &(*link)->next;
		if (*link)
			*link = turns->next;
		free(turns);
	}
	pthread_mutex_unlock(&d->lists);
}

/* --- The lock word --- */

#define TOKEN_OF(word) ((word) & ~FS_LockFlagMask)

/* Step 3. Own: the turn is one's own, so nobody in this process holds the lock. */
static bool lock_steal(struct domain *d, struct lock lock, uint64_t word)
{
	uint64_t owner = TOKEN_OF(word);
	if (owner != d->token && !token_dead(d, owner))
		return false;
	/* Pairs with the owner's last CAS: exactly its word, so that one who lives after all has not given the lock back meanwhile. */
	if (!atomic_compare_exchange_strong(lock.word, &word, d->token | FS_LockInconsistent | FS_LockWaiters))
		return false;
	count(d, FS_CounterSteals, 1);
	return true;
}

/* A living owner is in the way: after 100 ms, and then in longer and longer steps, it is asked to disown. The turn is ours. */
static void lock_ask(struct domain *d, struct turn *turn, uint64_t owner)
{
	uint64_t now = mono_ns();
	if (turn->blocker != owner) {
		turn->blocker = owner;
		turn->since = now;
		turn->ask = now + ASK_NS;
	} else if (now >= turn->ask) {
		uint64_t step = now - turn->since;
		turn->ask = now + (step < 16 * (uint64_t)ASK_NS ? step : 16 * (uint64_t)ASK_NS);
		ring(d, (uint32_t)(owner >> FS_LockRegionShift & 0xffff) - 1, FS_ReasonLocks);
	}
}

static flagstone_status lock_taken(struct lock lock, bool inconsistent, bool *repair)
{
	lock.turn->blocker = 0;
	if (repair)
		*repair = inconsistent;
	return FLAGSTONE_OK;
}

/* Steps 2 to 4. */
static flagstone_status lock_wait(struct domain *d, struct lock lock, uint64_t deadline, bool *repair)
{
	uint64_t began = mono_ns(), nap = NAP_NS;
	bool slept = false, starved = false;
	count(d, FS_CounterLockWaits, 1);
	for (;;) {
		bool over = deadline_over(deadline);
		uint32_t seen = atomic_load(lock.futex);
		uint64_t word = atomic_load(lock.word);
		if (TOKEN_OF(word) == 0 && (!(word & FS_LockStarved) || starved || over)) {
			uint64_t mine = d->token | (word & FS_LockInconsistent) | (slept ? FS_LockWaiters : 0);
			/* Pairs with the unlocker's CAS: what it wrote under the lock is seen. */
			if (atomic_compare_exchange_strong(lock.word, &word, mine))
				return lock_taken(lock, word & FS_LockInconsistent, repair);
		}
		if (TOKEN_OF(word) != 0) {
			if (lock_steal(d, lock, word))
				return lock_taken(lock, true, repair);
			lock_ask(d, lock.turn, TOKEN_OF(word));
		}
		if (over) {
			turn_give(lock.turn);
			return fail(FLAGSTONE_BUSY, "lock: region %d of generation %u has had it for longer than the patience",
			            (int)(word >> FS_LockRegionShift & 0xffff) - 1, (uint32_t)(word >> FS_LockGenerationShift));
		}
		if (atomic_load(&d->fate) != FLAGSTONE_OK) {
			turn_give(lock.turn);
			return domain_refuse(d);
		}
		uint64_t now = mono_ns();
		uint64_t mark = FS_LockWaiters | (now - began > FS_StarvationMillis * 1000000 ? FS_LockStarved : 0);
		/* Pairs with the unlocker, which looks at the flags in the word that it replaces: the futex word moves after that. */
		if (!atomic_compare_exchange_strong(lock.word, &word, word | mark))
			continue;
		starved = mark & FS_LockStarved;
		uint64_t left = deadline == UINT64_MAX ? nap : deadline > now ? deadline - now : 0;
		futex_wait(lock.futex, seen, left < nap ? left : nap, true);
		slept = true;
		nap = nap < NAP_MOST_NS ? nap * 2 : nap;
	}
}

static flagstone_status lock_take(struct domain *d, struct lock lock, uint64_t deadline, bool *repair)
{
	flagstone_status status = domain_writable(d);
	if (status != FLAGSTONE_OK)
		return status;
	if (!turn_take(lock.turn, deadline))
		return fail(FLAGSTONE_BUSY, "lock: another thread of this process has had it for longer than the patience");
	uint64_t word = 0;
	if (likely(atomic_compare_exchange_strong(lock.word, &word, d->token)))
		return lock_taken(lock, false, repair);
	return lock_wait(d, lock, deadline, repair);
}

static flagstone_status lock_try(struct domain *d, struct lock lock, bool steal, bool *repair)
{
	if (d->read || atomic_load(&d->fate) != FLAGSTONE_OK || !turn_take(lock.turn, 0))
		return FLAGSTONE_BUSY;
	uint64_t word = 0;
	if (likely(atomic_compare_exchange_strong(lock.word, &word, d->token)))
		return lock_taken(lock, false, repair);
	if (TOKEN_OF(word) == 0) {
		/* A starved waiter comes first; if it is still there it sets the mark again. */
		bool starved = word & FS_LockStarved;
		uint64_t next = starved ? word & ~FS_LockStarved : d->token | (word & FS_LockInconsistent);
		if (atomic_compare_exchange_strong(lock.word, &word, next) && !starved)
			return lock_taken(lock, word & FS_LockInconsistent, repair);
	} else if (steal && lock_steal(d, lock, word)) {
		return lock_taken(lock, true, repair);
	} else if (TOKEN_OF(word) != d->token) {
		lock_ask(d, lock.turn, TOKEN_OF(word));
	}
	turn_give(lock.turn);
	return FLAGSTONE_BUSY;
}

static flagstone_status lock_give(struct domain *d, struct lock lock, bool broken)
{
	if (atomic_load(&d->fate) == FLAGSTONE_FORKED)
		return domain_refuse(d); /* the word is the parent's */
	uint64_t word = atomic_load(lock.word);
	do {
		if (TOKEN_OF(word) != d->token) {
			uint32_t whole = FLAGSTONE_OK;
			atomic_compare_exchange_strong(&d->fate, &whole, FLAGSTONE_LOST);
			turn_give(lock.turn);
			return fail(FLAGSTONE_LOST, "unlock: the word is %#llx, this handle's token %#llx", (unsigned long long)word,
			            (unsigned long long)d->token);
		}
		/* Pairs with the next owner's CAS. */
	} while (!atomic_compare_exchange_weak(lock.word, &word, (word & FS_LockStarved) | (broken ? FS_LockInconsistent : 0)));
	if (unlikely(word & FS_LockWaiters)) {
		atomic_fetch_add(lock.futex, 1); /* pairs with the waiter's load before it looked at the word */
		futex_wake(lock.futex, word & FS_LockStarved ? INT_MAX : 1, true);
	}
	turn_give(lock.turn);
	return FLAGSTONE_OK;
}

/* Disown: the word names this handle and nobody here holds the lock, or the turn would be taken. */
static void lock_disown(struct domain *d, struct lock lock)
{
	if (TOKEN_OF(atomic_load(lock.word)) != d->token || !turn_take(lock.turn, 0))
		return;
	uint64_t word = atomic_load(lock.word);
	if (TOKEN_OF(word) == d->token &&
	    atomic_compare_exchange_strong(lock.word, &word, (word & FS_LockStarved) | FS_LockInconsistent)) {
		atomic_fetch_add(lock.futex, 1);
		futex_wake(lock.futex, INT_MAX, true);
	}
	turn_give(lock.turn);
}

/* --- Mutexes of the table --- */

static struct FS_Mutex *mutex_at(struct domain *d, uint32_t id)
{
	return (struct FS_Mutex *)(void *)((unsigned char *)d->header + d->shape.mutex_offset) + id;
}

static struct lock mutex_of(struct domain *d, uint32_t id)
{
	struct FS_Mutex *mutex = mutex_at(d, id);
	struct lock lock = {&mutex->Word, &mutex->Futex, &d->mutex_turns[id]};
	return lock;
}

static _Atomic(uint64_t) *held_words(struct domain *d)
{
	return (_Atomic(uint64_t) *)(void *)((unsigned char *)d->own + FS_SizeRegion);
}

/* Replaces one word `from` of the region's list by `to`; false: there is none. */
static bool held_replace(struct domain *d, uint64_t from, uint64_t to)
{
	_Atomic(uint64_t) *words = held_words(d);
	bool found = false;
	pthread_mutex_lock(&d->lists);
	for (uint32_t i = 0; i < d->shape.held && !found; i++)
		if (atomic_load(&words[i]) == from) {
			atomic_store(&words[i], to);
			found = true;
		}
	pthread_mutex_unlock(&d->lists);
	return found;
}

static flagstone_status mutex_lock(struct domain *d, uint32_t id, uint64_t deadline, bool *repair)
{
	flagstone_status status = domain_writable(d);
	if (status != FLAGSTONE_OK)
		return status;
	if (id >= d->shape.mutexes)
		return fail(FLAGSTONE_NOMUTEX, "mutex %u: the table has %u", id, d->shape.mutexes);
	uint64_t wanted = (uint64_t)id << 32 | FS_HeldWanted, owned = (uint64_t)id << 32 | FS_HeldOwned;
	if (!held_replace(d, 0, wanted))
		return fail(FLAGSTONE_TOOMANYHELD, "mutex %u: the region's list of %u is full", id, d->shape.held);
	status = lock_take(d, mutex_of(d, id), deadline, repair);
	if (atomic_load(&d->fate) == FLAGSTONE_FORKED)
		return domain_refuse(d);
	held_replace(d, wanted, status == FLAGSTONE_OK ? owned : 0);
	if (status == FLAGSTONE_OK) {
		pthread_mutex_lock(&d->lists);
		d->mutex_turns[id].held = true;
		pthread_mutex_unlock(&d->lists);
	}
	return status;
}

static flagstone_status mutex_unlock(struct domain *d, uint32_t id, bool broken)
{
	if (atomic_load(&d->fate) == FLAGSTONE_FORKED)
		return domain_refuse(d);
	if (d->read)
		return domain_writable(d);
	if (id >= d->shape.mutexes)
		return fail(FLAGSTONE_NOMUTEX, "mutex %u: the table has %u", id, d->shape.mutexes);
	pthread_mutex_lock(&d->lists);
	bool held = d->mutex_turns[id].held;
	d->mutex_turns[id].held = false;
	pthread_mutex_unlock(&d->lists);
	if (!held)
		return fail(FLAGSTONE_NOTHELD, "mutex %u: this handle does not hold it", id);
	flagstone_status status = lock_give(d, mutex_of(d, id), broken);
	held_replace(d, (uint64_t)id << 32 | FS_HeldOwned, 0);
	return status;
}
