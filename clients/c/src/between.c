/* Moves between stacks (PROTOCOL.md, 20): copied under one lock, stored under another, removed under the first again. */

/* A record on its way. */
struct carried {
	struct found found;          /* in the source, when it was copied */
	unsigned char *bytes;        /* key and value */
	struct key key;              /* in the target */
	uint64_t stored;             /* version in the target; 0: it stays where it was */
	bool placed;                 /* it took the place of another */
	bool cleared;                /* its namespace is no more: it goes */
	uint64_t id;                 /* of its namespace in the source, 0 for none */
};

struct between {
	struct stack *from, *to;
	uint64_t deadline, moved, limit;
	struct carried batch[MOVE_BATCH];
	uint32_t count;
	struct space *spaces;        /* namespaces seen, by their ids in the source */
};

/* A namespace: its name, and its ids. */
struct space {
	struct space *next;
	uint64_t from, to;           /* ids; to is 0 until it is needed, and looked up anew for each batch */
	bool gone;                   /* no longer that id in the source */
	uint32_t length;
	unsigned char name[];
};

static struct key space_key(const struct stack *stack, const struct space *space)
{
	return key_make(stack, space->name, space->length, (uint32_t)FS_FlagNamespace);
}

/* The id that a stack has for the name, 0 for none. */
static flagstone_status space_id(struct stack *stack, const struct space *space, uint64_t *id)
{
	struct key key = space_key(stack, space);
	struct answer answer = {.buffer = id, .capacity = sizeof *id};
	*id = 0;
	flagstone_status status = lookup(stack, &key, LOOKUP_UNCOUNTED, &answer);
	if (status == FLAGSTONE_NO || (status == FLAGSTONE_OK && answer.length != sizeof *id)) {
		*id = 0;
		return FLAGSTONE_OK;
	}
	return status;
}

/* The id in the target, a new one if there is none. */
static flagstone_status space_target(struct between *b, struct space *space)
{
	flagstone_status status = space_id(b->to, space, &space->to);
	if (status != FLAGSTONE_OK || space->to != 0)
		return status;
	uint64_t id = random_word() | 1;
	struct record record = {.key = space_key(b->to, space), .value = &id, .length = sizeof id};
	status = write_set(b->to, &record, 0, IF_ABSENT, 0, b->deadline, NULL);
	return status == FLAGSTONE_OK || status == FLAGSTONE_NO ? space_id(b->to, space, &space->to) : status;
}

/* Remembers the namespaces of the source whose ids are not known yet. */
static flagstone_status spaces_read(struct between *b, struct column *c)
{
	for (uint32_t tier = 0; tier < c->tiers; tier++) {
		const struct shard *s = column_shard(c, tier);
		for (uint32_t cell = 1; cell <= shard_cells(s); cell++) {
			struct found found;
			uint64_t id;
			bool known = false;
			if (!cell_live(s, tier, cell, &found) || !record_is_id(found.flags) || found.value_length != sizeof id)
				continue;
			struct space *space = malloc(sizeof *space + found.key_length);
			if (!space)
				return fail(FLAGSTONE_NOMEMORY, "no memory for a namespace's name");
			flagstone_status status = record_value(c, &found, 0, &id, sizeof id);
			if (status == FLAGSTONE_OK)
				status = record_key(c, &found, space->name);
			for (struct space *other = b->spaces; other; other = other->next)
				known = known || other->from == id;
			if (status != FLAGSTONE_OK || known) {
				free(space);
				if (status != FLAGSTONE_OK)
					return status;
				continue;
			}
			space->from = id;
			space->to = 0;
			space->gone = false;
			space->length = found.key_length;
			space->next = b->spaces;
			b->spaces = space;
		}
	}
	return FLAGSTONE_OK;
}

static flagstone_status spaces_collect(struct between *b)
{
	flagstone_status status = FLAGSTONE_OK;
	for (uint32_t number = 0; number < b->from->shards && status == FLAGSTONE_OK; number++) {
		struct column c;
		status = column_enter(&c, b->from, number, b->deadline);
		if (status != FLAGSTONE_OK)
			return status;
		do
			status = spaces_read(b, &c);
		while (column_again(&c, &status));
		status = column_leave(&c, status);
	}
	return status;
}

static struct space *space_of(struct between *b, uint64_t id)
{
	for (struct space *space = b->spaces; space; space = space->next)
		if (space->from == id)
			return space;
	return NULL;
}

/* Copies a record of the source; not claims and ids. */
static flagstone_status between_copy(struct between *b, struct column *c, const struct found *found)
{
	struct carried *carried = &b->batch[b->count];
	if (record_is_own(found->flags))
		return FLAGSTONE_OK;
	*carried = (struct carried){.found = *found, .bytes = malloc(found_bytes(found) + 1)};
	if (!carried->bytes)
		return fail(FLAGSTONE_NOMEMORY, "no memory for a record of %" PRIu64 " bytes", found_bytes(found));
	flagstone_status status = record_read(c, found, 0, carried->bytes, found_bytes(found));
	if (status != FLAGSTONE_OK) {
		free(carried->bytes);
		return status;
	}
	if (found->flags & FS_FlagScoped && found->key_length >= sizeof carried->id)
		memcpy(&carried->id, carried->bytes, sizeof carried->id);
	b->count++;
	return FLAGSTONE_OK;
}

/* 1: up to a batch of a column's records, from tier and cell on; *tier is the number of tiers at the end. */
static flagstone_status between_take(struct between *b, struct column *c, uint32_t *tier, uint32_t *cell)
{
	while (*tier < c->tiers) {
		const struct shard *s = column_shard(c, *tier);
		for (; *cell <= shard_cells(s); ++*cell) {
			struct found found;
			if (b->count == MOVE_BATCH || b->moved + b->count >= b->limit)
				return FLAGSTONE_OK;
			if (!cell_live(s, *tier, *cell, &found))
				continue;
			flagstone_status status = between_copy(b, c, &found);
			if (status != FLAGSTONE_OK)
				return status;
		}
		++*tier;
		*cell = 1;
	}
	return FLAGSTONE_OK;
}

/* The ids that the batch needs, looked up; and whether they still are the source's. */
static flagstone_status between_spaces(struct between *b, bool target)
{
	bool collected = false;
	for (struct space *space = b->spaces; space; space = space->next)
		space->to = target ? 0 : space->to;
	for (uint32_t i = 0; i < b->count; i++) {
		struct carried *carried = &b->batch[i];
		flagstone_status status = FLAGSTONE_OK;
		uint64_t id;
		if (carried->id == 0)
			continue;
		struct space *space = space_of(b, carried->id);
		if (!space && !collected && target) {
			collected = true;
			status = spaces_collect(b);
			space = space_of(b, carried->id);
		}
		if (status == FLAGSTONE_OK && space && !space->gone)
			status = space_id(b->from, space, &id);
		if (status == FLAGSTONE_OK && space && !space->gone)
			space->gone = id != space->from;
		carried->cleared = !space || space->gone;
		if (status == FLAGSTONE_OK && target && !carried->cleared && space->to == 0)
			status = space_target(b, space);
		if (status == FLAGSTONE_FULL)
			status = FLAGSTONE_OK; /* no id there: its records stay */
		if (status != FLAGSTONE_OK)
			return status;
		if (target && !carried->cleared && space->to != 0)
			memcpy(carried->bytes, &space->to, sizeof space->to);
	}
	return FLAGSTONE_OK;
}

static flagstone_status between_store_one(struct column *c, struct carried *carried)
{
	struct record record = {
		.key = carried->key,
		.value = carried->bytes + carried->found.key_length,
		.length = carried->found.value_length,
		.expiry = carried->found.expiry,
		.tag = carried->found.tag,
		.stamp = recency_stamp(carried->found.recency),
	};
	struct found old, written;
	flagstone_status status = record_find(c, &carried->key, &old);
	if (status != FLAGSTONE_OK || (carried->stored != 0 && old.cell != 0 && old.version == carried->stored))
		return status;
	carried->stored = 0;
	carried->placed = old.cell != 0;
	status = write_end_claim(c, &carried->key);
	written = found_none;
	if (status == FLAGSTONE_OK)
		status = record_set(c, 0, &record, &old, true, &written);
	carried->stored = written.version;
	return status;
}

/* 2, of the records whose column it is. */
static flagstone_status between_store(struct between *b, struct column *c)
{
	for (uint32_t i = 0; i < b->count; i++) {
		struct carried *carried = &b->batch[i];
		struct space *space = carried->id ? space_of(b, carried->id) : NULL;
		if (carried->cleared || (space && space->to == 0) || key_shard(b->to, &carried->key) != c->number)
			continue;
		if (carried->found.key_length > b->to->max_key || carried->found.value_length > b->to->max_value)
			continue;
		flagstone_status status;
		c->mended = false;
		do
			status = between_store_one(c, carried);
		while (column_again(c, &status));
		if (status == FLAGSTONE_FULL)
			carried->stored = 0;
		else if (status != FLAGSTONE_OK)
			return status;
	}
	return FLAGSTONE_OK;
}

/* The columns of the target that the batch belongs to, one after the other; work is 2 or 4. */
static flagstone_status between_target(struct between *b, flagstone_status (*work)(struct between *, struct column *))
{
	bool done[FS_MaxShards] = {false};
	for (uint32_t i = 0; i < b->count; i++) {
		uint32_t number = key_shard(b->to, &b->batch[i].key);
		struct column c;
		if (done[number])
			continue;
		done[number] = true;
		flagstone_status status = column_enter(&c, b->to, number, b->deadline);
		if (status == FLAGSTONE_OK)
			status = column_leave(&c, work(b, &c));
		if (status != FLAGSTONE_OK)
			return status;
	}
	return FLAGSTONE_OK;
}

/* The record's bytes begin with this stack's id of its namespace. */
static void carried_aim(struct carried *carried, uint64_t id)
{
	if (carried->id != 0 && id != 0)
		memcpy(carried->bytes, &id, sizeof id);
}

static flagstone_status between_remove_one(struct column *c, struct carried *carried, bool *removed)
{
	struct key key = key_make(c->stack, carried->bytes, carried->found.key_length, carried->found.flags);
	struct found found;
	flagstone_status status = record_find(c, &key, &found);
	if (status != FLAGSTONE_OK || found.cell == 0 || found.version != carried->found.version)
		return status;
	*removed = true;
	return record_remove(c, &found);
}

/* 3: from the source, if it is still the one that was copied. */
static flagstone_status between_remove(struct between *b, struct column *c)
{
	for (uint32_t i = 0; i < b->count; i++) {
		struct carried *carried = &b->batch[i];
		bool removed = false;
		flagstone_status status;
		if (carried->stored == 0 && !carried->cleared)
			continue;
		c->mended = false;
		uint64_t there = 0;
		if (carried->id != 0)
			memcpy(&there, carried->bytes, sizeof there);
		carried_aim(carried, carried->id);
		do
			status = between_remove_one(c, carried, &removed);
		while (column_again(c, &status));
		carried_aim(carried, there);
		if (status != FLAGSTONE_OK)
			return status;
		if (removed && !carried->cleared) {
			b->moved++;
			carried->stored = 0; /* nothing is left to be done about it */
		}
	}
	return FLAGSTONE_OK;
}

/* 4: the copies whose records were changed meanwhile, or whose namespace was cleared. */
static flagstone_status between_back(struct between *b, struct column *c)
{
	for (uint32_t i = 0; i < b->count; i++) {
		struct carried *carried = &b->batch[i];
		flagstone_status status;
		if (carried->stored == 0 || (carried->placed && !carried->cleared) || key_shard(b->to, &carried->key) != c->number)
			continue;
		c->mended = false;
		do {
			struct found found;
			status = record_find(c, &carried->key, &found);
			if (status == FLAGSTONE_OK && found.cell != 0 && found.version == carried->stored)
				status = record_remove(c, &found);
		} while (column_again(c, &status));
		if (status != FLAGSTONE_OK)
			return status;
	}
	return FLAGSTONE_OK;
}

static bool between_left(const struct between *b)
{
	for (uint32_t i = 0; i < b->count; i++)
		if (b->batch[i].stored != 0)
			return true;
	return false;
}

/* 2 to 4 for a batch that was taken from a column. */
static flagstone_status between_batch(struct between *b, uint32_t number)
{
	struct column c;
	flagstone_status status = between_spaces(b, true);
	for (uint32_t i = 0; i < b->count; i++) {
		struct carried *carried = &b->batch[i];
		carried->key = key_make(b->to, carried->bytes, carried->found.key_length, carried->found.flags);
	}
	if (status == FLAGSTONE_OK)
		status = between_target(b, between_store);
	if (status == FLAGSTONE_OK)
		status = between_spaces(b, false);
	if (status == FLAGSTONE_OK)
		status = column_enter(&c, b->from, number, b->deadline);
	if (status == FLAGSTONE_OK)
		status = column_leave(&c, between_remove(b, &c));
	return status == FLAGSTONE_OK && between_left(b) ? between_target(b, between_back) : status;
}

static void between_forget(struct between *b)
{
	while (b->count > 0)
		free(b->batch[--b->count].bytes);
}

static flagstone_status between_column(struct between *b, uint32_t number)
{
	for (uint32_t tier = 0, tiers = 1, cell = 1; tier < tiers && b->moved < b->limit;) {
		struct column c;
		flagstone_status status = column_enter(&c, b->from, number, b->deadline);
		if (status != FLAGSTONE_OK)
			return status;
		tiers = c.tiers;
		uint32_t first_tier = tier, first_cell = cell;
		do {
			between_forget(b);
			tier = first_tier;
			cell = first_cell;
			status = between_take(b, &c, &tier, &cell);
		} while (column_again(&c, &status));
		status = column_leave(&c, status);
		if (status == FLAGSTONE_OK && b->count > 0)
			status = between_batch(b, number);
		between_forget(b);
		if (status != FLAGSTONE_OK)
			return status;
	}
	return FLAGSTONE_OK;
}

static flagstone_status tiers_between(struct stack *from, struct stack *to, uint64_t limit, uint64_t deadline, uint64_t *moved)
{
	struct between *b = calloc(1, sizeof *b);
	if (!b)
		return fail(FLAGSTONE_NOMEMORY, "no memory to move records");
	if (from->id == to->id) {
		free(b);
		return fail(FLAGSTONE_OPTIONS, "a move from a stack to itself");
	}
	b->from = from;
	b->to = to;
	b->deadline = deadline;
	b->limit = limit;
	flagstone_status status = domain_writable(from->domain);
	for (uint32_t number = 0; number < from->shards && b->moved < limit && status == FLAGSTONE_OK; number++)
		status = between_column(b, number);
	if (moved)
		*moved = b->moved;
	for (struct space *space = b->spaces, *next; space; space = next) {
		next = space->next;
		free(space);
	}
	free(b);
	return status;
}
