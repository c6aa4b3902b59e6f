/* Counters: each thread adds to words of its own, the service thread publishes the sums in the region (section 9). */

static _Atomic(uint64_t) stripes_taken = 1; /* stripe 0 is for threads that find no other */
static pthread_key_t stripe_key;
static pthread_once_t stripe_once = PTHREAD_ONCE_INIT;

/* Release: what the thread has counted comes before what the stripe's next owner reads. */
static void stripe_return(void *stripe)
{
	atomic_fetch_and(&stripes_taken, ~(UINT64_C(1) << (uintptr_t)stripe));
	count_stripe = 0;
}

static void stripe_make_key(void)
{
	if (pthread_key_create(&stripe_key, stripe_return) != 0)
		atomic_store(&stripes_taken, UINT64_MAX);
}

static void stripe_take(void)
{
	pthread_once(&stripe_once, stripe_make_key);
	uint64_t taken = atomic_load(&stripes_taken);
	while (taken != UINT64_MAX) {
		uint32_t free = (uint32_t)__builtin_ctzll(~taken);
		if (!atomic_compare_exchange_weak(&stripes_taken, &taken, taken | UINT64_C(1) << free))
			continue;
		if (pthread_setspecific(stripe_key, (void *)(uintptr_t)free) != 0)
			stripe_return((void *)(uintptr_t)free);
		else
			count_stripe = free;
		return;
	}
}

static void count_slow(struct domain *d, uint32_t counter, uint64_t n)
{
	stripe_take();
	if (count_stripe != 0)
		count(d, counter, n);
	else
		atomic_fetch_add_explicit(&d->stripes[0].counter[counter], n, memory_order_relaxed);
}

static void counters_sum(struct domain *d, uint64_t sums[32])
{
	memset(sums, 0, 32 * sizeof *sums);
	for (int stripe = 0; stripe < COUNT_STRIPES; stripe++)
		for (int i = 0; i < 32; i++)
			sums[i] += atomic_load_explicit(&d->stripes[stripe].counter[i], memory_order_relaxed);
}

/* By one thread at a time, and not after Leave has begun to fold. */
static void counters_publish(struct domain *d)
{
	uint64_t sums[32];
	counters_sum(d, sums);
	for (int i = 0; i < 32; i++)
		atomic_store_explicit(&d->own->Counters[i], sums[i] - d->counted[i], memory_order_relaxed);
}
