/* Namespaces (section 14): keys of their own under a name, by a random id that a record keeps. */
#include "handle.h"

enum { NAMESPACE_TRIES = 16 };

static flagstone_status namespace_key(struct flagstone *h, const void *name, size_t length, struct key *key)
{
	if (length > h->stack->max_key)
		return fail(FLAGSTONE_KEYTOOLONG, "a namespace's name of %zu bytes, the limit is %u", length, h->stack->max_key);
	*key = key_make(h->stack, name, length, FS_FlagNamespace);
	return FLAGSTONE_OK;
}

static flagstone_status namespace_id(struct flagstone *h, const void *name, size_t length, bool make, unsigned char id[8])
{
	struct key key;
	flagstone_status status = namespace_key(h, name, length, &key);
	if (status != FLAGSTONE_OK)
		return status;
	for (int i = 0; i < NAMESPACE_TRIES; i++) {
		struct answer answer = {.buffer = id, .capacity = 8};
		/* A use of the id in every case, so that it does not age before its records. */
		status = lookup(h->stack, &key, LOOKUP_UNCOUNTED, &answer);
		bool damaged = status == FLAGSTONE_OK && answer.length != 8; /* is no id, and no error */
		if (damaged && !make)
			return FLAGSTONE_NO;
		if (!damaged && (status != FLAGSTONE_NO || !make))
			return status;
		/* Random, so that its successor never finds the records that it leaves; the lowest bit keeps it from being 0. */
		little_endian(id, random_word() | 1);
		struct record record = {.key = key, .value = id, .length = 8};
		status = write_set(h->stack, &record, 0, damaged ? IF_VERSION : IF_ABSENT, damaged ? answer.version : 0, handle_deadline(h), NULL);
		if (status != FLAGSTONE_NO)
			return status;
	}
	return fail(FLAGSTONE_BUSY, "a namespace's id came and went %d times", NAMESPACE_TRIES);
}

flagstone_status flagstone_clear_namespace(flagstone *handle, const void *space, size_t space_length)
{
	struct key key;
	flagstone_status status = handle_enter_writer(handle);
	if (status == FLAGSTONE_OK)
		status = namespace_key(handle, space ? space : "", space_length, &key);
	if (status != FLAGSTONE_OK)
		return status;
	return handle_leave(handle, write_delete(handle->stack, &key, handle_deadline(handle)));
}
