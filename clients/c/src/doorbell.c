/* Doorbells (section 11): the notifier's side, with the verified sender of signals. */

#define REGION_STATE(word) ((uint32_t)(word))
#define GENERATION(word) ((uint32_t)((word) >> FS_StateGenerationShift))

static struct FS_Region *region_at(struct domain *d, uint32_t region)
{
	return (struct FS_Region *)(void *)((unsigned char *)d->header + d->shape.region_offset + (uint64_t)region * d->shape.stride);
}

/* Reads the identity of a region whose state word was loaded before. */
static void region_identity(struct FS_Region *r, struct identity *who)
{
	for (int i = 0; i < 2; i++) {
		who->boot[i] = atomic_load(&r->BootID[i]);
		who->instance[i] = atomic_load(&r->Instance[i]);
	}
	who->pid_namespace = atomic_load(&r->PidNamespace);
	who->ticks = atomic_load(&r->StartTicks);
	who->inode = atomic_load(&r->PidfdInode);
	who->pid = atomic_load(&r->Pid);
	who->uid = atomic_load(&r->UID);
}

/* May that process be judged from here? Its boot and pid namespace are one's own, and /proc is that namespace's. */
static bool identity_near(const struct identity *who)
{
	uint64_t boot[2];
	return who->pid != 0 && who->pid <= INT32_MAX && boot_id(boot) && boot[0] == who->boot[0] && boot[1] == who->boot[1] &&
	       who->pid_namespace != 0 && who->pid_namespace == namespace_inode("/proc/self/ns/pid") && proc_is_own();
}

/* Is the signal caught, by SigCgt of /proc/PID/status? */
static bool signal_caught(uint32_t pid, uint32_t number)
{
	char path[48], text[8192];
	snprintf(path, sizeof path, "/proc/%u/status", pid);
	if (proc_read(path, text, sizeof text) < 0)
		return false;
	const char *line = strstr(text, "\nSigCgt:");
	return line && strtoull(line + 8, NULL, 16) >> (number - 1) & 1;
}

static bool thread_exists(uint32_t pid, uint32_t thread)
{
	char path[64];
	struct stat status;
	snprintf(path, sizeof path, "/proc/%u/task/%u", pid, thread);
	return stat(path, &status) == 0;
}

static bool signal_allowed(uint32_t number)
{
	return number == SIGUSR1 || number == SIGUSR2 || (number >= 35 && number <= 64);
}

static bool pidfd_running(int pidfd)
{
	struct pollfd ended = {pidfd, POLLIN, 0};
	return poll(&ended, 1, 0) == 0;
}

/* The verified sender, its steps 1 to 6 in their order. word: the region's state, loaded before all else. */
static void signal_send(struct domain *d, uint32_t region, uint64_t word)
{
	struct FS_Region *r = region_at(d, region);
	struct identity who;
	region_identity(r, &who);
	uint32_t number = atomic_load(&r->WakeSignal), thread = atomic_load(&r->WakeThread);
	if (!signal_allowed(number) || thread == 0 || thread > INT32_MAX || thread == who.pid || !identity_near(&who))
		return;
	int process = pidfd_of(who.pid, 0);
	if (process < 0)
		return;
	uint64_t inode = pidfd_inode(process);
	bool same = inode && who.inode ? inode == who.inode : start_ticks(who.pid, NULL) == who.ticks && who.ticks != 0;
	int target = same ? pidfd_of(thread, PIDFD_OF_THREAD) : -1;
	bool old_kernel = same && target < 0 && errno == EINVAL;
	if ((target >= 0 || old_kernel) && thread_exists(who.pid, thread) && byte_held(d->control_fd, FS_LeaseByte + region, 1) &&
	    atomic_load(&r->State) == word && atomic_load(&r->WakeMode) == FS_WakeSignal && atomic_load(&r->WakeSignal) == number &&
	    signal_caught(who.pid, number) && pidfd_running(process)) {
		if (old_kernel)
			syscall(SYS_tgkill, (long)who.pid, (long)thread, (long)number);
		else
			syscall(SYS_pidfd_send_signal, target, number, NULL, 0);
	}
	if (target >= 0)
		close(target);
	close(process);
}

/* The notifier's three steps; of a region that is not one's own. */
static void doorbell_ring(struct domain *d, uint32_t region, uint64_t reasons)
{
	struct FS_Region *r = region_at(d, region);
	uint64_t word = atomic_load(&r->State);
	atomic_fetch_or(&r->Reasons, reasons); /* pairs with the waiter's exchange */
	atomic_fetch_add(&r->Door, 1);         /* pairs with the waiter's second look at Door, after its store of Sleeping */
	if (atomic_load(&r->Sleeping) == 0)
		return;
	switch (atomic_load(&r->WakeMode)) {
	case FS_WakeFutex:
		futex_wake(&r->Door, 1, true);
		break;
	case FS_WakeSignal:
		if (REGION_STATE(word) == FS_RegionClaimed)
			signal_send(d, region, word);
		break;
	default:
		break;
	}
}

/* One's own service thread, whatever its wake mode: it sleeps on its own Door. */
static void doorbell_self(struct domain *d, uint64_t reasons)
{
	atomic_fetch_or(&d->own->Reasons, reasons);
	atomic_fetch_add(&d->own->Door, 1);
	futex_wake(&d->own->Door, 1, true);
}

static flagstone_status ring(struct domain *d, uint32_t region, uint64_t reasons)
{
	flagstone_status status = domain_writable(d);
	if (status != FLAGSTONE_OK)
		return status;
	if (region >= d->shape.regions)
		return fail(FLAGSTONE_OPTIONS, "ring: region %u, there are %u", region, d->shape.regions);
	if (region == d->region)
		doorbell_self(d, reasons);
	else if (REGION_STATE(atomic_load(&region_at(d, region)->State)) != FS_RegionClaimed)
		return fail(FLAGSTONE_STATE, "ring: region %u is nobody's", region);
	else
		doorbell_ring(d, region, reasons);
	return FLAGSTONE_OK;
}

static void ring_all(struct domain *d)
{
	for (uint32_t region = 0; region < d->shape.regions; region++)
		if (region != d->region && REGION_STATE(atomic_load(&region_at(d, region)->State)) == FS_RegionClaimed)
			doorbell_ring(d, region, FS_ReasonTable);
}

/* Adds 1 to Changes alone: whoever believes a miss compares it (pairs with changes()). */
static void changed_quietly(struct domain *d) { atomic_fetch_add(&d->header->Changes, 1); }

static void changed(struct domain *d)
{
	changed_quietly(d);
	ring_all(d);
}

static void acknowledge(struct domain *d, uint64_t value)
{
	if (!d->read && atomic_load(&d->fate) == FLAGSTONE_OK)
		atomic_store(&d->own->Acknowledged, value);
}
