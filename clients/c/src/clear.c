/* Clear (section 14): all records of a stack, column by column, claims first. */
#include "handle.h"

enum { CLEAR_CELLS = 1024, CLEAR_PASSES = 64 };

struct clearing {
	flagstone *h;
	uint32_t column;
	bool claims;                 /* the first pass: claims only */
	uint64_t sequence;           /* up to which version's sequence records go */
	struct view *view;           /* of the pass */
	uint64_t movement;           /* MovedIn of all tiers and the lower half of the epoch, at its beginning */
	uint64_t removed;
};

static uint64_t clear_movement(const struct column *c)
{
	uint64_t sum = epoch_low(column_shard(c, 0));
	for (uint32_t tier = 0; tier < c->tiers; tier++)
		sum += atomic_load(&column_shard(c, tier)->head->MovedIn);
	return sum;
}

static flagstone_status clear_cell(struct column *c, struct clearing *op, uint32_t tier, uint32_t cell)
{
	struct found found;
	const struct shard *s = column_shard(c, tier);
	if (!cell_live(s, tier, cell, &found) || version_sequence(found.version) > op->sequence ||
	    (op->claims && !(found.flags & FS_FlagClaim)))
		return FLAGSTONE_OK;
	flagstone_status status = record_locate(c, &found);
	if (status == FLAGSTONE_NO)
		return FLAGSTONE_OK;
	if (status == FLAGSTONE_OK)
		status = record_remove(c, &found);
	if (status == FLAGSTONE_OK) {
		shard_count(&s->head->Cleared, 1);
		op->removed++;
	}
	return status;
}

/* Some cells of a tier under one lock; *over: the last one, or a view that is not the pass's. */
static flagstone_status clear_some(struct clearing *op, uint32_t tier, uint32_t first, bool *over, bool *anew)
{
	struct column c;
	flagstone_status status = column_enter(&c, op->h->stack, op->column, handle_deadline(op->h));
	if (status != FLAGSTONE_OK)
		return status;
	*anew = c.view != op->view;
	uint32_t cells = *anew ? 0 : shard_cells(column_shard(&c, tier));
	*over = cells < first + CLEAR_CELLS;
	for (uint32_t cell = first; status == FLAGSTONE_OK && cell <= cells && cell < first + CLEAR_CELLS; cell++) {
		c.mended = false;
		do
			status = clear_cell(&c, op, tier, cell);
		while (column_again(&c, &status));
	}
	return column_leave(&c, status);
}

/* Steps 2 to 4, once; *still: nothing can have come past. */
static flagstone_status clear_pass(struct clearing *op, bool *still)
{
	struct column c;
	flagstone_status status = column_enter(&c, op->h->stack, op->column, handle_deadline(op->h));
	if (status != FLAGSTONE_OK)
		return status;
	op->view = c.view;
	op->movement = clear_movement(&c);
	uint32_t tiers = c.tiers;
	status = column_leave(&c, FLAGSTONE_OK);
	bool anew = false;
	for (uint32_t tier = 0; status == FLAGSTONE_OK && tier < tiers && !anew; tier++) {
		bool over = false;
		for (uint32_t first = 1; status == FLAGSTONE_OK && !over && !anew; first += CLEAR_CELLS)
			status = clear_some(op, tier, first, &over, &anew);
	}
	*still = false;
	if (status != FLAGSTONE_OK || anew)
		return status;
	if ((status = column_enter(&c, op->h->stack, op->column, handle_deadline(op->h))) != FLAGSTONE_OK)
		return status;
	*still = c.view == op->view && (tiers == 1 || clear_movement(&c) == op->movement);
	return column_leave(&c, FLAGSTONE_OK);
}

static flagstone_status clear_column(struct clearing *op)
{
	struct column c;
	flagstone_status status = column_enter(&c, op->h->stack, op->column, handle_deadline(op->h));
	if (status != FLAGSTONE_OK)
		return status;
	op->sequence = atomic_load(&c.top->Sequence);
	if ((status = column_leave(&c, FLAGSTONE_OK)) != FLAGSTONE_OK)
		return status;
	for (int i = 0; i < CLEAR_PASSES; i++) {
		bool still;
		status = clear_pass(op, &still);
		if (status != FLAGSTONE_OK || still)
			return status;
	}
	return fail(FLAGSTONE_BUSY, "records of column %u were moved again and again", op->column);
}

flagstone_status flagstone_clear(flagstone *handle, uint64_t *removed)
{
	flagstone_status status = handle_enter_writer(handle);
	if (status != FLAGSTONE_OK)
		return status;
	struct clearing op = {.h = handle};
	for (op.column = 0; status == FLAGSTONE_OK && op.column < handle->stack->shards; op.column++) {
		/* Computations under way end first: what they would fill in goes too. */
		op.claims = true;
		if ((status = clear_column(&op)) != FLAGSTONE_OK)
			break;
		op.claims = false;
		status = clear_column(&op);
	}
	if (removed)
		*removed = op.removed;
	return handle_leave(handle, status);
}
