/* Regions (section 9): claim, reap, quarantine, fold, leave; and who is dead (section 12). */

enum { CLAIM_TRIES = 250 };
#define SUSPECT_NS UINT64_C(1500000000)
#define ASK_AGAIN_NS UINT64_C(100000000)

/* --- Who is dead --- */

struct suspect { /* a region whose lease was found held while somebody wanted to know */
	uint64_t word, since, asked;
	bool gone;
};

struct suspects {
	pthread_mutex_t lock;
	struct suspect of[];
};

static struct suspects *suspects_make(uint32_t regions)
{
	struct suspects *suspects = calloc(1, sizeof *suspects + regions * sizeof suspects->of[0]);
	if (suspects)
		pthread_mutex_init(&suspects->lock, NULL);
	return suspects;
}

/* Is the owner provably gone, though a child keeps the lease? word was CLAIMED before; what cannot be judged lives. */
static bool region_provably_gone(struct domain *d, uint32_t region)
{
	struct identity who;
	region_identity(region_at(d, region), &who);
	if (!identity_near(&who))
		return false;
	int process = pidfd_of(who.pid, 0);
	if (process < 0)
		return errno == ESRCH || errno == ENOENT || errno == EINVAL; /* the last two: the number is a thread's */
	uint64_t inode = pidfd_inode(process);
	bool gone;
	if (inode && who.inode) {
		gone = inode != who.inode || !pidfd_running(process);
	} else {
		char path[48];
		snprintf(path, sizeof path, "/proc/%u/ns/time", who.pid);
		uint64_t time_namespace = namespace_inode(path), ticks = start_ticks(who.pid, NULL);
		gone = (ticks && who.ticks && ticks != who.ticks && time_namespace == namespace_inode("/proc/self/ns/time")) ||
		       !pidfd_running(process);
	}
	close(process);
	return gone;
}

/* The lease of a region with that CLAIMED word was found held. */
static bool region_gone(struct domain *d, uint32_t region, uint64_t word)
{
	uint64_t now = mono_ns();
	pthread_mutex_lock(&d->suspects->lock);
	struct suspect *s = &d->suspects->of[region];
	if (s->word != word) {
		struct suspect fresh = {word, now, 0, false};
		*s = fresh;
	}
	bool ask = now - s->since >= SUSPECT_NS && (s->asked == 0 || now - s->asked >= ASK_AGAIN_NS);
	if (ask) {
		s->asked = now;
		struct identity before, after;
		region_identity(region_at(d, region), &before);
		s->gone = region_provably_gone(d, region);
		region_identity(region_at(d, region), &after); /* its owner may be putting it right: then nobody is judged */
		s->gone = s->gone && memcmp(&before, &after, sizeof before) == 0 && atomic_load(&region_at(d, region)->State) == word;
	}
	bool gone = s->gone;
	pthread_mutex_unlock(&d->suspects->lock);
	return gone;
}

/* Does a process own the region, whose state word is given? Of one's own the kernel is not asked. */
static bool region_lives(struct domain *d, uint32_t region, uint64_t word)
{
	if (REGION_STATE(word) != FS_RegionClaimed)
		return false;
	if (!d->read && region == d->region)
		return GENERATION(word) == d->generation;
	return byte_held(d->control_fd, FS_LeaseByte + region, 1) && !region_gone(d, region, word);
}

static bool token_dead(struct domain *d, uint64_t token)
{
	token = TOKEN_OF(token);
	if (token == 0 || token == d->token)
		return false;
	uint32_t region = (uint32_t)(token >> FS_LockRegionShift & 0xffff) - 1;
	if (region >= d->shape.regions)
		return true;
	/* Pairs with the claimer's store of the next generation: from then on tokens of the old one are dead. */
	uint64_t word = atomic_load(&region_at(d, region)->State);
	return GENERATION(word) != (uint32_t)(token >> FS_LockGenerationShift) || !region_lives(d, region, word);
}

/* --- Cleaning a region, its lease held --- */

static _Atomic(uint64_t) *region_words(struct FS_Region *r)
{
	return (_Atomic(uint64_t) *)(void *)((unsigned char *)r + FS_SizeRegion);
}

/* Everything but state, identity, Joined, Door and counters. */
static void region_clear(struct domain *d, struct FS_Region *r)
{
	atomic_store(&r->WakeMode, FS_WakePoll);
	atomic_store(&r->Sleeping, 0);
	atomic_store(&r->WakeSignal, 0);
	atomic_store(&r->WakeThread, 0);
	atomic_store(&r->Flags, 0);
	atomic_store(&r->Acknowledged, 0);
	atomic_store(&r->Reasons, 0);
	memset(r->hole0, 0, sizeof r->hole0);
	memset(r->hole1, 0, sizeof r->hole1);
	memset(r->hole2, 0, sizeof r->hole2);
	uint32_t words = (d->shape.stride - (uint32_t)FS_SizeRegion) / 8; /* the lists, and the padding behind them */
	for (uint32_t i = 0; i < words; i++)
		atomic_store(&region_words(r)[i], 0);
}

/* The pid last: for 0 nobody is judged. */
static void region_identify(struct FS_Region *r, const struct identity *who, uint64_t joined)
{
	atomic_store(&r->Pid, 0);
	for (int i = 0; i < 2; i++) {
		atomic_store(&r->BootID[i], who->boot[i]);
		atomic_store(&r->Instance[i], who->instance[i]);
	}
	atomic_store(&r->PidNamespace, who->pid_namespace);
	atomic_store(&r->UID, who->uid);
	atomic_store(&r->StartTicks, who->ticks);
	atomic_store(&r->PidfdInode, who->inode);
	atomic_store(&r->Joined, joined);
	atomic_store(&r->Pid, who->pid);
}

static void region_fold(struct domain *d, struct FS_Region *r)
{
	for (int i = 0; i < 32; i++) {
		uint64_t n = atomic_exchange(&r->Counters[i], 0);
		if (n)
			atomic_fetch_add(&d->header->Totals[i], n);
	}
}

/* Reap, steps 1 to 5; the caller has the lease and goes on with 6. */
static void region_reap(struct domain *d, uint32_t region)
{
	static const struct identity nobody;
	struct FS_Region *r = region_at(d, region);
	uint64_t generation = atomic_load(&r->State) & ~(uint64_t)UINT32_MAX;
	atomic_store(&r->State, generation | FS_RegionReaping);
	entries_of_dead(d, region);
	entries_open_active(d);
	region_clear(d, r);
	region_fold(d, r);
	region_identify(r, &nobody, 0);
	atomic_store(&r->State, generation | FS_RegionFree);
}

static uint64_t reap_dead(struct domain *d)
{
	if (d->read || atomic_load(&d->fate) != FLAGSTONE_OK)
		return 0;
	uint64_t reaped = 0;
	turn_take(&d->reaping, UINT64_MAX); /* locks of one description do not exclude threads (region.pml BREAK_THREAD) */
	for (uint32_t region = 0; region < d->shape.regions; region++) {
		struct FS_Region *r = region_at(d, region);
		if (region == d->region || REGION_STATE(atomic_load(&r->State)) == FS_RegionFree ||
		    byte_take(d->control_fd, FS_LeaseByte + region) != 1)
			continue;
		if (REGION_STATE(atomic_load(&r->State)) != FS_RegionFree) {
			region_reap(d, region);
			changed_quietly(d);
			reaped++;
		}
		byte_give(d->control_fd, FS_LeaseByte + region, 1);
	}
	turn_give(&d->reaping);
	if (reaped)
		ring_all(d);
	return reaped;
}

/* --- One's own region --- */

static void region_own(struct domain *d, uint32_t region)
{
	struct FS_Region *r = region_at(d, region);
	uint32_t generation = GENERATION(atomic_load(&r->State)) + 1;
	if (generation == 0)
		generation = 1;
	atomic_store(&r->State, (uint64_t)generation << FS_StateGenerationShift | FS_RegionReaping);
	region_clear(d, r);
	for (int i = 0; i < 32; i++)
		atomic_store(&r->Counters[i], 0);
	identity_own(&d->self);
	d->joined = clock_wall_own();
	region_identify(r, &d->self, d->joined);
	d->own = r;
	d->region = region;
	d->generation = generation;
	d->token = (uint64_t)generation << FS_LockGenerationShift | (uint64_t)(region + 1) << FS_LockRegionShift;
	counters_sum(d, d->counted);
	atomic_store(&r->State, (uint64_t)generation << FS_StateGenerationShift | FS_RegionClaimed);
}

/* One search: 1 claimed, 0 none to be had, -1 errno. *unsettled: somebody is coming or going. */
static int region_search(struct domain *d, bool only_free, bool *unsettled)
{
	uint32_t first = (uint32_t)(random_word() % d->shape.regions);
	for (uint32_t i = 0; i < d->shape.regions; i++) {
		uint32_t region = (first + i) % d->shape.regions;
		struct FS_Region *r = region_at(d, region);
		uint32_t state = REGION_STATE(atomic_load(&r->State));
		*unsettled |= state != FS_RegionClaimed;
		if (only_free && state != FS_RegionFree)
			continue;
		int taken = byte_take(d->control_fd, FS_LeaseByte + region);
		if (taken < 0)
			return -1;
		if (taken == 0)
			continue;
		if (REGION_STATE(atomic_load(&r->State)) != FS_RegionFree) {
			region_reap(d, region);
			changed_quietly(d);
		}
		region_own(d, region);
		return 1;
	}
	return 0;
}

/* Claim, steps 1 to 5. */
static flagstone_status region_claim(struct domain *d)
{
	for (int tries = 0; tries < CLAIM_TRIES; tries++) {
		bool unsettled = false;
		int claimed = region_search(d, true, &unsettled);
		if (claimed == 0)
			claimed = region_search(d, false, &unsettled);
		if (claimed > 0)
			return FLAGSTONE_OK;
		if (claimed < 0)
			return errno == EINVAL ? fail(FLAGSTONE_LOCKS, "claim a region of %s: no open file description locks", d->name)
			                       : fail_errno("claim a region of %s", d->name);
		if (!unsettled && !byte_held(d->control_fd, FS_InitByte, 1))
			break;
		pause_us(2000);
	}
	return fail(FLAGSTONE_NOREGION, "claim a region of %s: all %u are taken", d->name, d->shape.regions);
}

/* Leave, from step 3 on, but for the descriptor. */
static void region_leave(struct domain *d)
{
	struct FS_Region *r = d->own;
	_Atomic(uint64_t) *words = region_words(r);
	atomic_store(&r->Flags, 0);
	for (uint32_t i = 0; i < d->shape.held + d->shape.mapped; i++)
		atomic_store(&words[i], 0);
	entries_finish(d);
	counters_publish(d);
	region_fold(d, r);
	atomic_store(&r->State, (uint64_t)d->generation << FS_StateGenerationShift | FS_RegionFree);
	changed(d);
}

/* Quarantine, its end: what others judge us by was overwritten. While one has the lease there is no other state. */
static void region_put_right(struct domain *d)
{
	struct identity seen;
	uint64_t state = (uint64_t)d->generation << FS_StateGenerationShift | FS_RegionClaimed;
	region_identity(d->own, &seen);
	if (seen.pid != d->self.pid || seen.pid_namespace != d->self.pid_namespace || seen.ticks != d->self.ticks ||
	    seen.inode != d->self.inode || seen.boot[0] != d->self.boot[0] || seen.boot[1] != d->self.boot[1])
		region_identify(d->own, &d->self, d->joined);
	if (atomic_load(&d->own->State) != state)
		atomic_store(&d->own->State, state);
}

/* --- For users --- */

static flagstone_status peers_each(struct domain *d, bool (*each)(void *context, const flagstone_peer *peer), void *context)
{
	flagstone_status status = domain_ready(d);
	for (uint32_t region = 0; status == FLAGSTONE_OK && region < d->shape.regions; region++) {
		struct FS_Region *r = region_at(d, region);
		uint64_t word = atomic_load(&r->State);
		if (REGION_STATE(word) == FS_RegionFree)
			continue;
		flagstone_peer peer = {
			.region = region, .generation = GENERATION(word), .pid = atomic_load(&r->Pid), .mode = atomic_load(&r->WakeMode),
			.flags = atomic_load(&r->Flags), .acknowledged = atomic_load(&r->Acknowledged),
			.alive = region_lives(d, region, word), .claimed = REGION_STATE(word) == FS_RegionClaimed,
		};
		if (!each(context, &peer))
			break;
	}
	return status == FLAGSTONE_OK ? domain_ready(d) : status;
}

static flagstone_status state_flags(struct domain *d, uint32_t flags)
{
	flagstone_status status = domain_writable(d);
	if (status != FLAGSTONE_OK)
		return status;
	atomic_store(&d->own->Flags, flags);
	changed(d);
	return FLAGSTONE_OK;
}

/* Totals first: what is folded meanwhile is missed rather than counted twice. */
static void counters_total(struct domain *d, uint64_t counters[32])
{
	if (!d->read && atomic_load(&d->fate) == FLAGSTONE_OK && turn_take(&d->counting, UINT64_MAX)) {
		counters_publish(d);
		turn_give(&d->counting);
	}
	for (int i = 0; i < 32; i++)
		counters[i] = atomic_load(&d->header->Totals[i]);
	for (uint32_t region = 0; region < d->shape.regions; region++) {
		struct FS_Region *r = region_at(d, region);
		if (REGION_STATE(atomic_load(&r->State)) != FS_RegionFree)
			for (int i = 0; i < 32; i++)
				counters[i] += atomic_load_explicit(&r->Counters[i], memory_order_relaxed);
	}
}
