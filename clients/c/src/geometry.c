/* From options to a slab's header, and from a header to checked numbers (PROTOCOL.md, 6, Geometry; 8, Checks). */

enum { HEAD_BYTES = sizeof(struct FS_CellHeader), TAIL_BYTES = sizeof(struct FS_TailHeader) };

static uint64_t divide_up(uint64_t n, uint64_t by)
{
	return n / by + (n % by != 0);
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return divide_up(n, to) * to;
}

static uint32_t geometry_cells(const struct geometry *g, uint64_t bytes)
{
	uint64_t head = g->cell_size - HEAD_BYTES;
	return bytes <= head ? 1 : (uint32_t)(1 + divide_up(bytes - head, g->cell_size - TAIL_BYTES));
}

/* What follows from the header's free numbers. Sums stay below 2^64: 2^31 cells of 2^20 bytes, 256 shards. */
static void geometry_derive(struct geometry *g)
{
	uint32_t largest = geometry_cells(g, (uint64_t)g->max_key + g->max_value);
	g->overflow = (uint32_t)divide_up(g->cells, FS_SlotsPerBucket);
	g->reserve = largest < g->cells / 2 ? largest : g->cells / 2;
	g->ghosts = g->order == FS_OrderS3FIFO
	                ? (uint32_t)divide_up((uint64_t)g->cells * (FS_SmallShare - 1), FS_SmallShare * FS_GhostWays)
	                : 0;
	g->ghost_offset = sizeof(struct FS_Shard) + ((uint64_t)g->buckets + g->overflow) * sizeof(struct FS_Bucket);
	g->cell_offset = round_up(g->ghost_offset + (uint64_t)g->ghosts * 16, FS_PageSize);
	g->shard_stride = round_up(g->cell_offset + (uint64_t)g->cells * g->cell_size, FS_PageSize);
	g->file_size = FS_PageSize + g->shard_stride * g->shards;
}

static bool geometry_limits(const struct geometry *g)
{
	return g->shards >= 1 && g->shards <= FS_MaxShards && (g->shards & (g->shards - 1)) == 0 && g->cell_size >= FS_MinCellSize &&
	       g->cell_size <= FS_MaxCellSize && g->cell_size % FS_LineSize == 0 && g->cells >= 2 && g->cells <= FS_MaxShardCells &&
	       g->buckets >= 1 && g->buckets <= g->cells && g->max_key >= 8 && g->max_key <= FS_MaxKeyLength &&
	       g->max_value >= FS_LeastMaxValue && g->max_value <= FS_MaxValueLength && (g->order == FS_OrderLRU || g->order == FS_OrderS3FIFO) &&
	       (g->full == FS_FullEvict || g->full == FS_FullRefuse) && g->stamp_millis <= FS_MaxStampMillis && g->capacity >= 1;
}

/* Natural logarithm of x > 0: of the mantissa in 1 to 2 by the series of artanh, and of the power of two. */
static double geometry_log(double x)
{
	const double log2 = 0.693147180559945309417232121458;
	int power = 0;
	for (; x >= 2; x /= 2)
		power++;
	for (; x < 1; x *= 2)
		power--;
	double y = (x - 1) / (x + 1), term = y, sum = 0;
	for (int i = 1; i < 60; i += 2, term *= y * y)
		sum += term / i;
	return 2 * sum + power * log2;
}

/* Whether m records a shard are enough for any entries keys, but for one chance in 2^40. */
static bool geometry_enough(uint64_t entries, uint32_t shards, uint64_t m)
{
	double mean = (double)entries / shards, x = (double)m / mean - 1;
	return x > 0 && -mean * ((1 + x) * geometry_log(1 + x) - x) + geometry_log(shards) <= -40 * geometry_log(2);
}

/* Records a shard must have room for, so that any that many keys fit (6, From options to the chosen numbers). */
static uint64_t geometry_share(uint64_t entries, uint32_t shards)
{
	if (shards == 1)
		return entries;
	uint64_t low = entries / shards, high = entries; /* low is not enough */
	while (low + 1 < high) {
		uint64_t middle = low + (high - low) / 2;
		if (geometry_enough(entries, shards, middle))
			high = middle;
		else
			low = middle;
	}
	return high;
}

/* The geometry for so many records in so many shards, derived but not checked. */
static void geometry_size(struct geometry *g, uint64_t entries, uint32_t shards)
{
	uint64_t reserve = geometry_cells(g, (uint64_t)g->max_key + g->max_value);
	uint64_t cells = geometry_share(entries, shards) + reserve;
	if (cells < 2 * reserve)
		cells = 2 * reserve;
	g->shards = shards;
	g->capacity = entries;
	g->cells = cells > FS_MaxShardCells ? (uint32_t)FS_MaxShardCells + 1 : (uint32_t)cells;
	g->buckets = (uint32_t)divide_up(g->cells, FS_RecordsPerBucket);
	geometry_derive(g);
}

/* The same, the number of shards being open if it is 0. */
static void geometry_fit(struct geometry *g, uint64_t entries, uint32_t shards)
{
	if (shards != 0) {
		geometry_size(g, entries, shards);
		return;
	}
	for (shards = 64; shards > 1; shards /= 2) {
		geometry_size(g, entries, shards);
		if ((uint64_t)g->shards * g->cells - entries <= entries / 8)
			return;
	}
	geometry_size(g, entries, 1);
}

static flagstone_status geometry_plan(const struct shape *shape, struct geometry *g)
{
	uint64_t entries = shape->entries;
	memset(g, 0, sizeof *g);
	g->cell_size = shape->cell_size ? shape->cell_size : (uint32_t)FS_DefaultCellSize;
	if (g->cell_size < FS_MinCellSize || g->cell_size > FS_MaxCellSize || g->cell_size % FS_LineSize != 0)
		return fail(FLAGSTONE_OPTIONS, "cell size %" PRIu32 " is no multiple of %d from %d to %d", g->cell_size, (int)FS_LineSize,
		            (int)FS_MinCellSize, (int)FS_MaxCellSize);
	if (entries == 0)
		entries = shape->bytes ? divide_up(shape->bytes, g->cell_size) : 65536;
	if (entries > FS_MaxShards * FS_MaxShardCells)
		return fail(FLAGSTONE_OPTIONS, "%" PRIu64 " entries are more than any slab holds", entries);
	g->max_key = shape->max_key == 0 ? 1024 : shape->max_key < 8 ? 8 : shape->max_key;
	g->order = shape->order ? shape->order : (uint32_t)FS_OrderLRU;
	g->full = shape->full;
	g->stamp_millis = shape->stamp_millis;
	if (shape->shards > FS_MaxShards || (shape->shards & (shape->shards - 1)) != 0)
		return fail(FLAGSTONE_OPTIONS, "%" PRIu32 " shards are no power of two up to %d", shape->shards, (int)FS_MaxShards);
	g->max_value = shape->max_value ? shape->max_value : 65536;
	if (g->max_value < FS_LeastMaxValue)
		g->max_value = (uint32_t)FS_LeastMaxValue;
	if (g->max_value > FS_MaxValueLength || g->max_key > FS_MaxKeyLength)
		return fail(FLAGSTONE_OPTIONS, "keys to %" PRIu32 ", values to %" PRIu32 " bytes", g->max_key, g->max_value);
	geometry_fit(g, entries, shape->shards);
	if (shape->entries == 0 && shape->bytes) { /* the most entries whose file is not larger */
		uint64_t low = 1, high = entries;
		while (low < high) {
			uint64_t middle = low + (high - low + 1) / 2;
			geometry_fit(g, middle, shape->shards);
			if (g->file_size <= shape->bytes)
				low = middle;
			else
				high = middle - 1;
		}
		geometry_fit(g, low, shape->shards);
	}
	if (!geometry_limits(g))
		return fail(FLAGSTONE_OPTIONS, "no slab of %" PRIu64 " entries, %" PRIu32 " shards of %" PRIu32 " cells, keys to %" PRIu32
		            ", values to %" PRIu32 ", order %" PRIu32 ", policy %" PRIu32 ", stamps of %" PRIu32 " ms", entries, g->shards, g->cells,
		            g->max_key, g->max_value, g->order, g->full, g->stamp_millis);
	return FLAGSTONE_OK;
}

static uint64_t geometry_checksum(const void *page)
{
	return hash_xxh3(page, offsetof(struct FS_SlabHeader, Checksum), 0);
}

static void geometry_format(void *base, const struct geometry *g, const struct owner *owner)
{
	struct FS_SlabHeader *h = base;
	word_set(&h->Magic, FS_SlabMagic);
	word_set(&h->ReadVersion, FS_Major);
	word_set(&h->WriteVersion, FS_Major);
	word_set(&h->Endian, FS_EndianMark);
	word_set(&h->Compatible, FS_KnownCompatible);
	word_set(&h->Incompatible, 0);
	word_set(&h->Fingerprint, FS_Fingerprint);
	word_set(&h->FileSize, g->file_size);
	word_set(&h->SegmentID, owner->segment);
	word_set(&h->DomainUUID[0], owner->uuid[0]);
	word_set(&h->DomainUUID[1], owner->uuid[1]);
	word_set(&h->HashSeed, owner->seed);
	word_set(&h->Shards, g->shards);
	word_set(&h->CellSize, g->cell_size);
	word_set(&h->Cells, g->cells);
	word_set(&h->Buckets, g->buckets);
	word_set(&h->Overflow, g->overflow);
	word_set(&h->MaxKey, g->max_key);
	word_set(&h->MaxValue, g->max_value);
	word_set(&h->Reserve, g->reserve);
	word_set(&h->Order, g->order);
	word_set(&h->Full, g->full);
	word_set(&h->Capacity, g->capacity);
	word_set(&h->ShardOffset, FS_PageSize);
	word_set(&h->ShardStride, g->shard_stride);
	word_set(&h->IndexOffset, sizeof(struct FS_Shard));
	word_set(&h->CellOffset, g->cell_offset);
	word_set(&h->GhostOffset, g->ghost_offset);
	word_set(&h->Ghosts, g->ghosts);
	word_set(&h->StampMillis, g->stamp_millis);
	word_set(&h->Created, owner->created);
	unsigned char page[FS_PageSize];
	bytes_out(page, base, 0, sizeof page);
	word_set(&h->Checksum, geometry_checksum(page));
	atomic_store(&h->Ready, 1); /* pairs with the load of who attaches, after ACTIVE */
}

/* A field of a header that must be what it must be. */
#define EXPECT(status, field, have, want)                                                                                                \
	do {                                                                                                                             \
		if ((uint64_t)(have) != (uint64_t)(want))                                                                                \
			return fail((status), "slab %016" PRIx64 ": %s is 0x%" PRIx64 ", not 0x%" PRIx64, owner->segment, field,         \
			            (uint64_t)(have), (uint64_t)(want));                                                                 \
	} while (0)

/* Magic to checksum, and READY, of a copy of the header. */
static flagstone_status header_of(const void *base, uint64_t size, const struct owner *owner, struct FS_SlabHeader *h)
{
	if (size < sizeof *h)
		return fail(FLAGSTONE_TRUNCATED, "slab %016" PRIx64 ": %" PRIu64 " bytes are less than a header", owner->segment, size);
	bytes_out(h, base, 0, sizeof *h);
	EXPECT(FLAGSTONE_MAGIC, "Magic", h->Magic, FS_SlabMagic);
	EXPECT(FLAGSTONE_ENDIAN, "Endian", h->Endian, FS_EndianMark);
	if (h->ReadVersion > FS_Major || (!owner->reads && h->WriteVersion > FS_Major))
		return fail(FLAGSTONE_VERSION, "slab %016" PRIx64 ": version %" PRIu32 " to read, %" PRIu32 " to write; this is %d", owner->segment,
		            (uint32_t)h->ReadVersion, (uint32_t)h->WriteVersion, FS_Major);
	if ((h->Incompatible & ~FS_KnownIncompatible) != 0)
		return fail(FLAGSTONE_FEATURE, "slab %016" PRIx64 ": features 0x%" PRIx64, owner->segment, (uint64_t)h->Incompatible);
	EXPECT(FLAGSTONE_FINGERPRINT, "Fingerprint", h->Fingerprint, FS_Fingerprint);
	EXPECT(FLAGSTONE_CHECKSUM, "Checksum", h->Checksum, geometry_checksum(h));
	EXPECT(FLAGSTONE_NOTREADY, "Ready", h->Ready, 1);
	return FLAGSTONE_OK;
}

static flagstone_status identity_of(const struct FS_SlabHeader *h, uint64_t size, const struct owner *owner)
{
	if (size != h->FileSize)
		return fail(size < h->FileSize ? FLAGSTONE_TRUNCATED : FLAGSTONE_OVERSIZED,
		            "slab %016" PRIx64 ": the file has %" PRIu64 " bytes, FileSize says %" PRIu64, owner->segment, size, (uint64_t)h->FileSize);
	EXPECT(FLAGSTONE_FOREIGN, "SegmentID", h->SegmentID, owner->segment);
	EXPECT(FLAGSTONE_FOREIGN, "DomainUUID", h->DomainUUID[0], owner->uuid[0]);
	EXPECT(FLAGSTONE_FOREIGN, "DomainUUID", h->DomainUUID[1], owner->uuid[1]);
	EXPECT(FLAGSTONE_FOREIGN, "HashSeed", h->HashSeed, owner->seed);
	return FLAGSTONE_OK;
}

static flagstone_status page_check(const void *base, uint64_t size, const struct owner *owner)
{
	struct FS_SlabHeader h;
	flagstone_status status = header_of(base, size, owner, &h);
	return status == FLAGSTONE_OK ? identity_of(&h, size, owner) : status;
}

static flagstone_status geometry_check(const void *base, uint64_t size, const struct owner *owner, struct geometry *g)
{
	struct FS_SlabHeader copy, *h = &copy;
	flagstone_status status = header_of(base, size, owner, h);
	if (status != FLAGSTONE_OK)
		return status;
	memset(g, 0, sizeof *g);
	g->shards = h->Shards;
	g->cell_size = h->CellSize;
	g->cells = h->Cells;
	g->buckets = h->Buckets;
	g->max_key = h->MaxKey;
	g->max_value = h->MaxValue;
	g->order = h->Order;
	g->full = h->Full;
	g->stamp_millis = h->StampMillis;
	g->capacity = h->Capacity;
	if (!geometry_limits(g))
		return fail(FLAGSTONE_GEOMETRY, "slab %016" PRIx64 ": %" PRIu32 " shards of %" PRIu32 " cells of %" PRIu32 " bytes, keys to %" PRIu32
		            ", values to %" PRIu32 ", order %" PRIu32 ", policy %" PRIu32 ", stamps of %" PRIu32 " ms", owner->segment, g->shards,
		            g->cells, g->cell_size, g->max_key, g->max_value, g->order, g->full, g->stamp_millis);
	geometry_derive(g);
	if (g->capacity > (uint64_t)g->shards * (g->cells - g->reserve))
		return fail(FLAGSTONE_GEOMETRY, "slab %016" PRIx64 ": Capacity is %" PRIu64 " with %" PRIu32 " shards of %" PRIu32 " cells",
		            owner->segment, g->capacity, g->shards, g->cells);
	EXPECT(FLAGSTONE_GEOMETRY, "Overflow", h->Overflow, g->overflow);
	EXPECT(FLAGSTONE_GEOMETRY, "Reserve", h->Reserve, g->reserve);
	EXPECT(FLAGSTONE_GEOMETRY, "Ghosts", h->Ghosts, g->ghosts);
	EXPECT(FLAGSTONE_GEOMETRY, "IndexOffset", h->IndexOffset, sizeof(struct FS_Shard));
	EXPECT(FLAGSTONE_GEOMETRY, "GhostOffset", h->GhostOffset, g->ghost_offset);
	EXPECT(FLAGSTONE_GEOMETRY, "CellOffset", h->CellOffset, g->cell_offset);
	EXPECT(FLAGSTONE_GEOMETRY, "ShardOffset", h->ShardOffset, FS_PageSize);
	EXPECT(FLAGSTONE_GEOMETRY, "ShardStride", h->ShardStride, g->shard_stride);
	EXPECT(FLAGSTONE_GEOMETRY, "FileSize", h->FileSize, g->file_size);
	return identity_of(h, size, owner);
}

#undef EXPECT

static void slab_lay_out(struct slab *slab)
{
	const struct geometry *g = &slab->geometry;
	for (uint32_t i = 0; i < g->shards; i++) {
		unsigned char *start = slab->base + FS_PageSize + g->shard_stride * i;
		struct shard *s = &slab->shards[i];
		s->head = (void *)start;
		s->buckets = (void *)(start + sizeof(struct FS_Shard));
		s->overflow = s->buckets + g->buckets - 1;
		s->ghosts = (void *)(start + g->ghost_offset);
		s->cells = start + g->cell_offset - g->cell_size;
		s->geometry = g;
		s->number = i;
	}
}
