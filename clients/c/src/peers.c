/* Peers, doorbells, the steward, mutexes and held columns, the clock. */
#include "handle.h"

flagstone_status flagstone_peers(flagstone *handle, bool (*each)(void *context, const flagstone_peer *peer), void *context)
{
	flagstone_status status = handle_enter(handle);
	return status != FLAGSTONE_OK ? status : peers_each(handle->domain, each, context);
}

flagstone_status flagstone_reap(flagstone *handle, uint64_t *reaped)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	uint64_t n = reap_dead(handle->domain);
	if (reaped)
		*reaped = n;
	return handle_leave(handle, FLAGSTONE_OK);
}

flagstone_status flagstone_flags(flagstone *handle, uint32_t flags)
{
	flagstone_status status = handle_enter_writer(handle);
	return status != FLAGSTONE_OK ? status : handle_leave(handle, state_flags(handle->domain, flags));
}

flagstone_status flagstone_ring(flagstone *handle, uint32_t region, uint32_t bit)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK && bit > 31)
		status = fail(FLAGSTONE_OPTIONS, "ring: there is no reason %u of 0 to 31", bit);
	return status != FLAGSTONE_OK ? status : handle_leave(handle, ring(handle->domain, region, FS_ReasonApplication << bit));
}

flagstone_status flagstone_heard(flagstone *handle, uint32_t *reasons, uint64_t *changes)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	uint32_t taken = heard(handle->domain, UINT32_MAX);
	if (reasons)
		*reasons = taken;
	if (changes)
		*changes = atomic_load(&handle->domain->own->Acknowledged);
	return handle_leave(handle, FLAGSTONE_OK);
}

flagstone_status flagstone_await(flagstone *handle, uint32_t bit, uint32_t millis)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK && bit > 31)
		status = fail(FLAGSTONE_OPTIONS, "await: there is no reason %u of 0 to 31", bit);
	return status != FLAGSTONE_OK ? status : heard_await(handle->domain, bit, deadline_in(millis));
}

flagstone_status flagstone_steward(flagstone *handle, uint32_t *region)
{
	uint32_t who;
	flagstone_status status = handle_enter(handle);
	if (status != FLAGSTONE_OK)
		return status;
	if (!steward_who(handle->domain, &who))
		return FLAGSTONE_NO;
	if (region)
		*region = who;
	return handle_leave(handle, FLAGSTONE_OK);
}

flagstone_status flagstone_lead(flagstone *handle)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	return steward_lead(handle->domain) ? handle_leave(handle, FLAGSTONE_OK) : FLAGSTONE_NO;
}

flagstone_status flagstone_resign(flagstone *handle)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	return steward_resign(handle->domain) ? handle_leave(handle, FLAGSTONE_OK) : FLAGSTONE_NO;
}

flagstone_status flagstone_lock(flagstone *handle, uint32_t id, bool *repair)
{
	bool inconsistent = false;
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = mutex_lock(handle->domain, id, handle_deadline(handle), &inconsistent);
	if (repair)
		*repair = inconsistent;
	return status;
}

flagstone_status flagstone_unlock(flagstone *handle, uint32_t id, bool broken)
{
	flagstone_status status = handle_enter_writer(handle);
	return status != FLAGSTONE_OK ? status : mutex_unlock(handle->domain, id, broken);
}

flagstone_status flagstone_hold(flagstone *handle, flagstone_key key)
{
	struct stored_key stored = {.far = NULL};
	uint32_t idle = HOLDS_NOTHING;
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	if (!atomic_compare_exchange_strong(&handle->holding, &idle, HOLDS_SOON))
		return fail(FLAGSTONE_BUSY, "the handle holds a column already");
	status = stored_key_begin(handle, &key, true, &stored);
	if (status == FLAGSTONE_OK)
		status = column_enter(&handle->held, handle->stack, key_shard(handle->stack, &stored.key), handle_deadline(handle));
	stored_key_end(&stored);
	atomic_store(&handle->holding, status == FLAGSTONE_OK ? HOLDS : HOLDS_NOTHING);
	return status;
}

flagstone_status flagstone_drop(flagstone *handle)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	uint32_t held = HOLDS;
	if (!atomic_compare_exchange_strong(&handle->holding, &held, HOLDS_SOON))
		return fail(FLAGSTONE_NOTHELD, "the handle holds no column");
	status = column_leave(&handle->held, FLAGSTONE_OK);
	atomic_store(&handle->holding, HOLDS_NOTHING);
	return handle_leave(handle, status);
}

flagstone_status flagstone_now(flagstone *handle, uint64_t *wall, uint64_t *domain)
{
	flagstone_status status = handle_enter(handle);
	if (status != FLAGSTONE_OK)
		return status;
	if (!handle->domain->read)
		clock_advance(handle->domain);
	if (wall)
		*wall = clock_wall(handle->domain);
	if (domain)
		*domain = clock_domain(handle->domain);
	return handle_leave(handle, FLAGSTONE_OK);
}
