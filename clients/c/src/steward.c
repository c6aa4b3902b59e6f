/* The steward's byte and word (section 7). */

#define VACANT_NS UINT64_C(2000000000)
#define WANTED_IGNORED_NS UINT64_C(60000000000)

/* Has the word named nobody who lives for 2 s? Asked with the turn `leading`. */
static bool steward_vacant(struct domain *d, uint64_t word)
{
	uint64_t now = mono_ns();
	bool nobody = word == 0 || TOKEN_OF(word) != word || token_dead(d, word);
	if (!nobody || word != d->vacant_word || d->vacant_since == 0) {
		d->vacant_word = word;
		d->vacant_since = nobody ? now : 0;
		return false;
	}
	return now - d->vacant_since >= VACANT_NS;
}

/* Does a handle with duties of its own wait to lead? Held by a child of the dead, with nobody leading, it counts for nothing for a minute. */
static bool steward_wanted(struct domain *d)
{
	uint64_t now = mono_ns();
	if (now < d->wanted_ignored_until || !byte_held(d->control_fd, FS_WantedByte, 1))
		return false;
	if (d->leads || !steward_vacant(d, atomic_load(&d->header->Steward)))
		return true;
	d->wanted_ignored_until = now + WANTED_IGNORED_NS;
	return false;
}

static bool steward_resign_held(struct domain *d)
{
	if (!d->leads)
		return false;
	uint64_t word = d->token;
	atomic_compare_exchange_strong(&d->header->Steward, &word, 0);
	if (d->leads_by_byte)
		byte_give(d->control_fd, FS_StewardByte, 1);
	d->leads = d->leads_by_byte = false;
	changed(d);
	return true;
}

static bool steward_lead_held(struct domain *d)
{
	if (!d->leads_by_byte && steward_wanted(d)) {
		steward_resign_held(d);
		return false;
	}
	uint64_t word = atomic_load(&d->header->Steward);
	if (!d->leads_by_byte && byte_take(d->control_fd, FS_StewardByte) == 1)
		d->leads_by_byte = true;
	if (d->leads_by_byte) {
		bool news = !d->leads || word != d->token;
		d->leads = true;
		if (news) {
			atomic_store(&d->header->Steward, d->token);
			changed(d);
		}
		return true;
	}
	if (d->leads) /* without the byte, a child of the dead having it, one leads as long as the word says so */
		return d->leads = word == d->token;
	if (!steward_vacant(d, word) || !atomic_compare_exchange_strong(&d->header->Steward, &word, d->token))
		return false;
	d->leads = true;
	changed(d);
	return true;
}

static bool steward_lead(struct domain *d)
{
	if (domain_writable(d) != FLAGSTONE_OK || !turn_take(&d->leading, UINT64_MAX))
		return false;
	bool leads = steward_lead_held(d);
	turn_give(&d->leading);
	return leads;
}

static bool steward_resign(struct domain *d)
{
	if (domain_writable(d) != FLAGSTONE_OK || !turn_take(&d->leading, UINT64_MAX))
		return false;
	bool led = steward_resign_held(d);
	turn_give(&d->leading);
	return led;
}

/* Looked at before each round of work; one that has no duties of its own makes way for one that has. */
static bool steward_leads(struct domain *d)
{
	if (domain_writable(d) != FLAGSTONE_OK || !turn_take(&d->leading, UINT64_MAX))
		return false;
	if (d->leads && steward_wanted(d))
		steward_resign_held(d);
	bool leads = d->leads && steward_lead_held(d);
	turn_give(&d->leading);
	return leads;
}

static bool steward_who(struct domain *d, uint32_t *region)
{
	uint64_t word = atomic_load(&d->header->Steward);
	if (word == 0 || TOKEN_OF(word) != word || token_dead(d, word))
		return false;
	bool own = word == d->token && d->token != 0;
	if (own ? !steward_leads(d) : !byte_held(d->control_fd, FS_StewardByte, 1))
		return false;
	*region = (uint32_t)(word >> FS_LockRegionShift & 0xffff) - 1;
	return *region < d->shape.regions;
}
