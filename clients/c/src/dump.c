/* The records of one tier of a column in their order, as two implementations are to agree on them. */

static flagstone_status dump_one(struct column *c, uint32_t tier, uint32_t cell, struct copy *copy, dump_visit visit, void *context, bool *more)
{
	const struct shard *s = column_shard(c, tier);
	struct dumped record = {.shard = c->number};
	if (!cell_live(s, tier, cell, &record.found))
		return broken(s, "the order has a cell that is no live record", cell);
	flagstone_status status = copy_record(s, &record.found, copy);
	if (status == FLAGSTONE_BUSY)
		return broken(s, "a record's chain is cut", cell);
	if (status != FLAGSTONE_OK)
		return status;
	record.key = copy->bytes;
	record.value = copy->bytes + record.found.key_length;
	*more = visit(context, &record);
	return FLAGSTONE_OK;
}

static flagstone_status slab_dump(struct column *c, uint32_t tier, dump_visit visit, void *context)
{
	const struct shard *s = column_shard(c, tier);
	struct copy copy = {NULL, 0};
	flagstone_status status = FLAGSTONE_OK;
	uint32_t steps = s->geometry->cells;
	bool more = true;
	for (int small = order_s3fifo(s); small >= 0 && more && status == FLAGSTONE_OK; small--)
		for (uint32_t cell = order_first(s, small); cell != 0 && more && status == FLAGSTONE_OK; cell = order_next(s, cell)) {
			status = dump_one(c, tier, cell, &copy, visit, context, &more);
			if (steps-- == 0)
				status = broken(s, "the order has no end", cell);
		}
	free(copy.bytes);
	return status;
}
