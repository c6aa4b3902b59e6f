/* In which order a full shard's records make room: lru or s3fifo, with ghosts (PROTOCOL.md, 6). All under the lock. */

static inline bool order_s3fifo(const struct shard *s)
{
	return s->geometry->order == FS_OrderS3FIFO;
}

static inline uint32_t order_turn(const struct shard *s)
{
	return (uint32_t)(word_get(&s->head->Turn) & FS_RecencyTurnMask);
}

static inline uint64_t recency_make(uint64_t stamp, uint32_t turn, uint32_t count)
{
	return stamp << FS_RecencyStampShift | (uint64_t)turn << FS_RecencyTurnShift | count;
}

static inline uint32_t recency_turn(uint64_t recency)
{
	return (uint32_t)(recency >> FS_RecencyTurnShift & FS_RecencyTurnMask);
}

/* Gives the word another turn and count; the stamp may be a quicker reader's. One CAS, which may fail: these are hints. */
static void recency_mark(struct FS_CellHeader *h, uint32_t turn, uint32_t count)
{
	uint64_t seen = atomic_load(&h->Recency); /* pairs with the CAS of a hit */
	atomic_compare_exchange_strong(&h->Recency, &seen, recency_make(recency_stamp(seen), turn, count));
}

/* Front and Back of one of the two lists. */
static inline _Atomic(uint32_t) *order_front(const struct shard *s, bool small)
{
	return small ? &s->head->SmallFront : &s->head->Front;
}

static inline _Atomic(uint32_t) *order_back(const struct shard *s, bool small)
{
	return small ? &s->head->SmallBack : &s->head->Back;
}

static inline uint32_t order_prev(struct FS_CellHeader *h)
{
	return word_get(&h->Prev) & ~(uint32_t)FS_QueueSmall;
}

static inline bool order_small(struct FS_CellHeader *h)
{
	return (word_get(&h->Prev) & FS_QueueSmall) != 0;
}

static inline bool cell_exists(const struct shard *s, uint32_t cell)
{
	return cell != 0 && cell <= s->geometry->cells;
}

static uint32_t order_first(const struct shard *s, bool small)
{
	uint32_t cell = word_get(order_front(s, small));
	return cell_exists(s, cell) ? cell : 0;
}

static uint32_t order_next(const struct shard *s, uint32_t cell)
{
	uint32_t next = word_get(&cell_at(s, cell)->Next);
	return cell_exists(s, next) ? next : 0;
}

/* The two words that lead to a record from its neighbours, or from the ends of its list; broken if they do not. */
static flagstone_status order_around(const struct shard *s, uint32_t cell, _Atomic(uint32_t) **before, _Atomic(uint32_t) **after)
{
	struct FS_CellHeader *h = cell_at(s, cell);
	uint32_t prev = order_prev(h), next = word_get(&h->Next);
	bool small = order_small(h);
	if (prev > s->geometry->cells || next > s->geometry->cells)
		return broken(s, "a record's neighbour is no cell", cell);
	*before = prev ? &cell_at(s, prev)->Next : order_front(s, small);
	*after = next ? &cell_at(s, next)->Prev : order_back(s, small);
	if (word_get(*before) != cell || (word_get(*after) & ~(uint32_t)FS_QueueSmall) != cell)
		return broken(s, "a record's neighbours do not name it", cell);
	if (small && word_get(&s->head->SmallCount) == 0)
		return broken(s, "the small queue counts too few", cell);
	return FLAGSTONE_OK;
}

/* Stores a cell number into a Prev or Back word, keeping a Prev's mark. */
static inline void order_point(_Atomic(uint32_t) *word, uint32_t cell)
{
	word_set(word, (word_get(word) & (uint32_t)FS_QueueSmall) | cell);
}

static flagstone_status order_unlink(const struct shard *s, uint32_t cell)
{
	struct FS_CellHeader *h = cell_at(s, cell);
	_Atomic(uint32_t) *before, *after;
	flagstone_status status = order_around(s, cell, &before, &after);
	if (status != FLAGSTONE_OK)
		return status;
	word_set(before, word_get(&h->Next));
	order_point(after, order_prev(h));
	if (order_small(h))
		word_set(&s->head->SmallCount, word_get(&s->head->SmallCount) - 1);
	return FLAGSTONE_OK;
}

static flagstone_status order_push(const struct shard *s, uint32_t cell, bool small)
{
	struct FS_CellHeader *h = cell_at(s, cell);
	uint32_t first = word_get(order_front(s, small));
	if (first > s->geometry->cells)
		return broken(s, "the front of the order is no cell", first);
	word_set(&h->Prev, small ? (uint32_t)FS_QueueSmall : 0);
	word_set(&h->Next, first);
	order_point(first ? &cell_at(s, first)->Prev : order_back(s, small), cell);
	word_set(order_front(s, small), cell);
	if (small)
		word_set(&s->head->SmallCount, word_get(&s->head->SmallCount) + 1);
	return FLAGSTONE_OK;
}

/* A new record takes its predecessor's place. */
static flagstone_status order_replace(const struct shard *s, uint32_t old, uint32_t cell)
{
	struct FS_CellHeader *was = cell_at(s, old), *is = cell_at(s, cell);
	_Atomic(uint32_t) *before, *after;
	flagstone_status status = order_around(s, old, &before, &after);
	if (status != FLAGSTONE_OK)
		return status;
	word_set(&is->Prev, word_get(&was->Prev));
	word_set(&is->Next, word_get(&was->Next));
	word_set(before, cell);
	order_point(after, cell);
	return FLAGSTONE_OK;
}

static flagstone_status order_refront(const struct shard *s, uint32_t cell, bool small)
{
	flagstone_status status = order_unlink(s, cell);
	return status == FLAGSTONE_OK ? order_push(s, cell, small) : status;
}

/* --- Ghosts: bytes of any content will do --- */

static inline uint64_t ghost_print(uint64_t hash)
{
	return hash >> 16 & 0xffff;
}

static inline _Atomic(uint64_t) *ghost_bucket(const struct shard *s, uint64_t hash)
{
	return &s->ghosts[2 * ((hash >> 32) * s->geometry->ghosts >> 32)];
}

static void ghost_leave(const struct shard *s, uint64_t hash)
{
	if (s->geometry->ghosts == 0)
		return;
	_Atomic(uint64_t) *ghost = ghost_bucket(s, hash);
	uint64_t young = word_get(&ghost[0]), old = word_get(&ghost[1]);
	word_set(&ghost[0], young << 16 | ghost_print(hash));
	word_set(&ghost[1], old << 16 | young >> 48);
}

/* Whether the key has a ghost, which is gone then. */
static bool ghost_take(const struct shard *s, uint64_t hash)
{
	if (s->geometry->ghosts == 0)
		return false;
	_Atomic(uint64_t) *ghost = ghost_bucket(s, hash);
	for (unsigned i = 0; i < FS_GhostWays; i++) {
		uint64_t word = word_get(&ghost[i / 4]);
		unsigned shift = 16 * (i % 4);
		if ((word >> shift & 0xffff) == ghost_print(hash)) {
			word_set(&ghost[i / 4], word & ~(UINT64_C(0xffff) << shift));
			return true;
		}
	}
	return false;
}

/* --- The order itself --- */

/* A new record enters: replacing old (0: none) or as one that is new. */
static flagstone_status order_enter(const struct shard *s, uint32_t cell, uint64_t hash, uint32_t old)
{
	if (!order_s3fifo(s)) {
		flagstone_status status = old ? order_unlink(s, old) : FLAGSTONE_OK;
		return status == FLAGSTONE_OK ? order_push(s, cell, false) : status;
	}
	return old ? order_replace(s, old, cell) : order_push(s, cell, !ghost_take(s, hash));
}

/* The count that it enters with. */
static uint32_t order_count(const struct shard *s, uint32_t old)
{
	if (!order_s3fifo(s) || old == 0)
		return 0;
	uint32_t count = recency_count(word_get(&cell_at(s, old)->Recency));
	return count < 3 ? count + 1 : 3;
}

/* One record was written: the turn (lru). */
static void order_written(const struct shard *s)
{
	if (order_s3fifo(s))
		return;
	uint32_t left = word_get(&s->head->TurnLeft);
	if (left == 0 || left > s->geometry->cells) {
		atomic_store(&s->head->Turn, word_get(&s->head->Turn) + 1); /* read by hits */
		left = s->geometry->cells / (uint32_t)FS_TurnsPerLap + 1;
	}
	word_set(&s->head->TurnLeft, left - 1);
}

/* The last record of a list but keep; 0 if there is none. */
static uint32_t order_last(const struct shard *s, bool small, uint32_t keep)
{
	uint32_t cell = word_get(order_back(s, small));
	if (cell == keep && cell_exists(s, cell))
		cell = order_prev(cell_at(s, cell));
	return cell_exists(s, cell) ? cell : 0;
}

/* Who is to make room (6, Order), never keep. In the s3fifo order those that were used go back on the way, which stays so. */
static flagstone_status order_victim(const struct shard *s, uint32_t keep, uint32_t *victim)
{
	for (unsigned moves = 0;; moves++) {
		uint32_t cell = 0;
		if (order_s3fifo(s) && (uint64_t)word_get(&s->head->SmallCount) * FS_SmallShare > word_get(&s->head->Live))
			cell = order_last(s, true, keep);
		if (cell == 0)
			cell = order_last(s, false, keep);
		if (cell == 0)
			return broken(s, "the order has no record to give up", word_get(&s->head->Live));
		*victim = cell;
		if (!order_s3fifo(s) || moves == FS_RelinkLimit)
			return FLAGSTONE_OK;
		struct FS_CellHeader *h = cell_at(s, cell);
		uint64_t recency = atomic_load(&h->Recency);
		uint32_t count = recency_count(recency);
		bool small = order_small(h);
		if (count < (small ? 2 : 1))
			return FLAGSTONE_OK;
		flagstone_status status = order_refront(s, cell, false);
		if (status != FLAGSTONE_OK)
			return status;
		recency_mark(h, recency_turn(recency), small ? 0 : count - 1);
	}
}
