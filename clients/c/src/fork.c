/* Forks without exec (section 7): the child's handles are disarmed; reattach joins anew. */

/* No list is half changed when the process is copied. */
static void fork_prepare(void)
{
	pthread_mutex_lock(&domains.lock);
	for (struct domain *d = domains.first; d; d = d->next)
		pthread_mutex_lock(&d->lists);
}

static void fork_parent(void)
{
	for (struct domain *d = domains.first; d; d = d->next)
		pthread_mutex_unlock(&d->lists);
	pthread_mutex_unlock(&domains.lock);
}

/* In the child there is this one thread, and none of the mappings (MADV_DONTFORK). Closing the child's descriptors unlocks
 * nothing: the open file description is the parent's too. */
static void fork_child(void)
{
	pthread_mutex_init(&domains.lock, NULL);
	for (struct domain *d = domains.first; d; d = d->next) {
		atomic_store(&d->fate, FLAGSTONE_FORKED);
		fault_forget(d, NULL);
		if (d->control_fd >= 0)
			close(d->control_fd);
		if (d->version_fd >= 0)
			close(d->version_fd);
		d->control_fd = d->version_fd = -1;
		d->header = NULL;
		d->own = NULL;
		d->serving = false;
		d->leads = d->leads_by_byte = false;
		d->vacant_since = d->wanted_ignored_until = 0;
		for (struct segment *s = d->segments; s; s = s->next)
			s->gone = true;
		d->segments = NULL;
		for (struct blanked *zeros = d->blanked, *next; zeros; zeros = next) {
			next = zeros->next;
			free(zeros);
		}
		d->blanked = NULL;
		for (struct turns *t = d->turns; t; t = t->next)
			memset(t->turn, 0, t->count * sizeof t->turn[0]);
		memset(&d->exclusive, 0, sizeof d->exclusive);
		memset(&d->reaping, 0, sizeof d->reaping);
		memset(&d->leading, 0, sizeof d->leading);
		memset(&d->counting, 0, sizeof d->counting);
		atomic_store(&d->heard, 0);
		pthread_mutex_init(&d->lists, NULL);
	}
}

static void fork_install(void) { pthread_atfork(fork_prepare, fork_parent, fork_child); }

static flagstone_status domain_reattach(struct domain *d)
{
	if (atomic_load(&d->fate) != FLAGSTONE_FORKED)
		return domain_ready(d);
	free(d->mutex_turns);
	free(d->suspects);
	d->mutex_turns = NULL;
	d->suspects = NULL;
	/* The parent's domain or none: what was destroyed meanwhile is not made anew. */
	struct domain_options options = d->options;
	options.create = false;
	uint64_t uuid[2] = {d->uuid[0], d->uuid[1]};
	d->life++; /* before the thread begins: handles of before are not to be used */
	atomic_store(&d->fate, FLAGSTONE_OK);
	flagstone_status status = domain_join(d, &options);
	if (status == FLAGSTONE_OK && (d->uuid[0] != uuid[0] || d->uuid[1] != uuid[1])) {
		service_stop(d);
		region_leave(d);
		domain_unmap(d);
		status = fail(FLAGSTONE_DESTROYED, "reattach domain %s: another one of its name has taken its place", d->name);
	}
	if (status != FLAGSTONE_OK)
		atomic_store(&d->fate, FLAGSTONE_FORKED);
	return status;
}
