/* Cells: the free list, versions, and the chains that hold records' bytes (PROTOCOL.md, 6, Records). All under the lock. */

static inline uint64_t version_make(uint64_t sequence, uint32_t shard)
{
	return sequence << FS_VersionSequenceShift | (uint64_t)shard << FS_VersionShardShift;
}

/* A live head of this shard: all that is not garbage, PART, FREE or never used. */
static inline bool version_live(uint64_t version, uint32_t shard)
{
	uint64_t low = (UINT64_C(1) << FS_VersionSequenceShift) - 1;
	return (version & low) == (uint64_t)shard << FS_VersionShardShift && version != 0 && version < FS_VersionLimit;
}

static inline bool version_garbage(uint64_t version, uint32_t shard)
{
	return version >= FS_VersionLimit || (version >> FS_VersionShardShift & 0xff) != shard;
}

static inline uint64_t version_part(uint64_t version) { return version | FS_VersionPart; }
static inline uint64_t version_free(uint64_t version) { return version | FS_VersionFree; }

/* A head's words between two loads of its version. The lengths are possible. */
static bool cell_live(const struct shard *s, uint32_t tier, uint32_t cell, struct found *found)
{
	struct FS_CellHeader *h = cell_at(s, cell);
	uint64_t version = atomic_load(&h->Version); /* pairs with the store of LIVE */
	if (!version_live(version, s->number))
		return false;
	uint32_t key = word_get(&h->KeyFlags), prev = word_get(&h->Prev);
	*found = (struct found){
		.tier = tier,
		.cell = cell,
		.version = version,
		.recency = word_get(&h->Recency),
		.expiry = word_get(&h->Expiry),
		.key_length = key & (uint32_t)FS_KeyLengthMask,
		.flags = key >> FS_KeyFlagsShift,
		.value_length = word_get(&h->ValueLength),
		.tag = word_get(&h->UserTag),
		.small = (prev & FS_QueueSmall) != 0,
	};
	fence(memory_order_acquire); /* pairs with the fence behind PART */
	return atomic_load(&h->Version) == version && found->key_length <= s->geometry->max_key &&
	       found->value_length <= s->geometry->max_value;
}

static uint32_t shard_cells(const struct shard *s)
{
	uint32_t bump = word_get(&s->head->Bump);
	return bump < s->geometry->cells ? bump : s->geometry->cells;
}

static inline uint64_t found_bytes(const struct found *found)
{
	return (uint64_t)found->key_length + found->value_length;
}

static void shard_count(_Atomic(uint64_t) *counter, uint64_t n)
{
	word_set(counter, word_get(counter) + n);
}

/* The next version of the column: its number is given when it stands in Sequence. */
static flagstone_status version_next(struct column *c, uint64_t *version)
{
	uint64_t sequence = word_get(&c->top->Sequence) + 1;
	if (sequence >= FS_VersionLimit >> FS_VersionSequenceShift)
		return broken(column_shard(c, 0), "no version is left", sequence);
	word_set(&c->top->Sequence, sequence);
	*version = version_make(sequence, c->number);
	return FLAGSTONE_OK;
}

/* 14, Set 4: a cell, from the free list or above Bump, with its version PART. */
static flagstone_status cell_take(const struct shard *s, uint64_t version, uint32_t *taken)
{
	uint32_t head = word_get(&s->head->FreeHead), bump = word_get(&s->head->Bump);
	uint32_t cell = head ? head : bump + 1;
	if (!cell_exists(s, cell))
		return broken(s, "no cell is left, or the free list leads nowhere", cell);
	struct FS_CellHeader *h = cell_at(s, cell);
	uint64_t was = word_get(&h->Version);
	if (head ? (was & FS_VersionStateMask) != FS_VersionFree : was != 0)
		return broken(s, "a free cell is in use", cell);
	if (head)
		word_set(&s->head->FreeHead, word_get(&h->Chain));
	else
		word_set(&s->head->Bump, cell);
	atomic_store(&h->Version, version_part(version));
	fence(memory_order_release); /* before the new bytes, for who still copies the old ones */
	*taken = cell;
	return FLAGSTONE_OK;
}

static void cell_give(const struct shard *s, uint32_t cell)
{
	word_set(&cell_at(s, cell)->Chain, word_get(&s->head->FreeHead));
	word_set(&s->head->FreeHead, cell);
}

/* --- A place in a record's bytes --- */

struct chain {
	const struct shard *shard;
	uint64_t version;  /* the head's */
	uint32_t cell;
	uint32_t offset;   /* in the cell */
	uint32_t steps;    /* cells that the record may still go on to */
	bool cut;          /* a link led nowhere */
};

static struct chain chain_at(const struct shard *s, uint32_t cell, uint64_t version, uint64_t bytes)
{
	return (struct chain){s, version, cell, HEAD_BYTES, geometry_cells(s->geometry, bytes) - 1, false};
}

static inline _Atomic(uint32_t) *chain_link(const struct shard *s, uint32_t cell, bool head)
{
	struct FS_CellHeader *h = cell_at(s, cell);
	return head ? &h->Chain : &((struct FS_TailHeader *)(void *)h)->Chain;
}

/* To the next cell of a record that is there. The head's first link stands elsewhere than the tails'. */
static bool chain_step(struct chain *chain, bool head)
{
	uint32_t next = word_get(chain_link(chain->shard, chain->cell, head));
	chain->cut = chain->steps == 0 || !cell_exists(chain->shard, next) ||
	             atomic_load(&cell_at(chain->shard, next)->Version) != version_part(chain->version);
	if (chain->cut)
		return false;
	chain->steps--;
	chain->cell = next;
	chain->offset = TAIL_BYTES;
	return true;
}

static inline uint32_t chain_left(const struct chain *chain)
{
	return chain->shard->geometry->cell_size - chain->offset;
}

/* Copies the next bytes out; without the lock they may be anything, and the head's version says so afterwards. `head` is the record's first cell. */
static bool chain_read(struct chain *chain, uint32_t head, void *to, uint64_t bytes)
{
	unsigned char *out = to;
	while (bytes > 0) {
		if (chain_left(chain) == 0 && !chain_step(chain, chain->cell == head))
			return false;
		uint64_t piece = chain_left(chain) < bytes ? chain_left(chain) : bytes;
		if (out) {
			bytes_out(out, (unsigned char *)cell_at(chain->shard, chain->cell), chain->offset, piece);
			out += piece;
		}
		chain->offset += (uint32_t)piece;
		bytes -= piece;
	}
	return true;
}

/* Compares the next bytes, from the beginning of the record on. */
static bool chain_equal(struct chain *chain, uint32_t head, const void *with, uint64_t bytes)
{
	const unsigned char *in = with;
	while (bytes > 0) {
		if (chain_left(chain) == 0 && !chain_step(chain, chain->cell == head))
			return false;
		uint64_t piece = chain_left(chain) < bytes ? chain_left(chain) : bytes;
		if (!bytes_equal((unsigned char *)cell_at(chain->shard, chain->cell), chain->offset, in, piece))
			return false;
		in += piece;
		chain->offset += (uint32_t)piece;
		bytes -= piece;
	}
	return true;
}

/* Appends bytes to a record being written, taking tails. */
static flagstone_status chain_write(struct chain *chain, uint32_t head, const void *from, uint64_t bytes)
{
	const unsigned char *in = from;
	while (bytes > 0) {
		if (chain_left(chain) == 0) {
			uint32_t tail;
			flagstone_status status = cell_take(chain->shard, chain->version, &tail);
			if (status != FLAGSTONE_OK)
				return status;
			word_set(chain_link(chain->shard, chain->cell, chain->cell == head), tail);
			word_set(chain_link(chain->shard, tail, false), 0);
			chain->cell = tail;
			chain->offset = TAIL_BYTES;
		}
		uint64_t piece = chain_left(chain) < bytes ? chain_left(chain) : bytes;
		bytes_in((unsigned char *)cell_at(chain->shard, chain->cell), chain->offset, in, piece);
		in += piece;
		chain->offset += (uint32_t)piece;
		bytes -= piece;
	}
	return FLAGSTONE_OK;
}

/* The same, from another record's bytes. */
static flagstone_status chain_copy(struct chain *to, uint32_t to_head, struct chain *from, uint32_t from_head, uint64_t bytes)
{
	unsigned char part[512];
	while (bytes > 0) {
		uint64_t piece = bytes < sizeof part ? bytes : sizeof part;
		if (!chain_read(from, from_head, part, piece))
			return broken(from->shard, "a record's chain is cut", from_head);
		flagstone_status status = chain_write(to, to_head, part, piece);
		if (status != FLAGSTONE_OK)
			return status;
		bytes -= piece;
	}
	return FLAGSTONE_OK;
}
