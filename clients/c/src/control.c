/* The control segment's header (section 5): its geometry, its checks, its making. */

static struct control_shape control_shape_of(uint32_t mutexes, uint32_t entries, uint32_t regions, uint32_t held, uint32_t mapped)
{
	struct control_shape s = {.mutexes = mutexes, .entries = entries, .regions = regions, .held = held, .mapped = mapped};
	s.stride = (uint32_t)((FS_SizeRegion + 8 * ((uint64_t)held + mapped) + 63) / 64 * 64);
	s.mutex_offset = FS_PageSize;
	s.entry_offset = s.mutex_offset + FS_SizeMutex * mutexes;
	s.region_offset = s.entry_offset + FS_SizeEntry * entries;
	s.size = (s.region_offset + (uint64_t)s.stride * regions + FS_PageSize - 1) / FS_PageSize * FS_PageSize;
	return s;
}

static bool shape_allowed(const struct control_shape *s)
{
	return s->entries >= 1 && s->entries <= FS_MaxEntries && s->mutexes >= s->entries && s->mutexes <= FS_MaxMutexes &&
	       s->regions >= 1 && s->regions <= FS_MaxRegions && s->held >= 1 && s->held <= FS_MaxHeld && s->mapped >= 1 &&
	       s->mapped <= FS_MaxMapped;
}

static uint64_t header_checksum(const struct FS_ControlHeader *header)
{
	unsigned char bytes[offsetof(struct FS_ControlHeader, Checksum)];
	memcpy(bytes, header, sizeof bytes);
	return hash_xxh3(bytes, sizeof bytes, 0);
}

#define LOAD(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define STORE(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

/* The words that both kinds of header begin with, in the order of section 8, Checks. */
#define HEADER_CHECK(page, magic, read_only, name)                                                                                            \
	(LOAD((page)->Magic) != (magic) ? header_differs(FLAGSTONE_MAGIC, name, "Magic", LOAD((page)->Magic), magic)                          \
	 : LOAD((page)->Endian) != FS_EndianMark ? header_differs(FLAGSTONE_ENDIAN, name, "Endian", LOAD((page)->Endian), FS_EndianMark)      \
	 : LOAD((page)->ReadVersion) > FS_Major ? header_differs(FLAGSTONE_VERSION, name, "ReadVersion", LOAD((page)->ReadVersion), FS_Major) \
	 : !(read_only) && LOAD((page)->WriteVersion) > FS_Major                                                                            \
	     ? header_differs(FLAGSTONE_VERSION, name, "WriteVersion", LOAD((page)->WriteVersion), FS_Major)                                  \
	 : LOAD((page)->Incompatible) & ~FS_KnownIncompatible                                                                                 \
	     ? header_differs(FLAGSTONE_FEATURE, name, "Incompatible", LOAD((page)->Incompatible), FS_KnownIncompatible)                      \
	 : LOAD((page)->Fingerprint) != FS_Fingerprint                                                                                        \
	     ? header_differs(FLAGSTONE_FINGERPRINT, name, "Fingerprint", LOAD((page)->Fingerprint), FS_Fingerprint)                          \
	     : FLAGSTONE_OK)

static flagstone_status header_differs(flagstone_status status, const char *name, const char *field, uint64_t is, uint64_t expected)
{
	return fail(status, "%s: %s is %#llx, not %#llx", name, field, (unsigned long long)is, (unsigned long long)expected);
}

/* Checks a copy of the first page; size is the file's. */
static flagstone_status header_check(const struct FS_ControlHeader *page, uint64_t size, bool read_only, const char *name, struct control_shape *shape)
{
	if (size < FS_PageSize)
		return header_differs(FLAGSTONE_TRUNCATED, name, "the file's size", size, FS_PageSize);
	flagstone_status status = HEADER_CHECK(page, FS_ControlMagic, read_only, name);
	if (status != FLAGSTONE_OK)
		return status;
	if (LOAD(page->Checksum) != header_checksum(page))
		return header_differs(FLAGSTONE_CHECKSUM, name, "Checksum", LOAD(page->Checksum), header_checksum(page));
	*shape = control_shape_of(LOAD(page->Mutexes), LOAD(page->Entries), LOAD(page->Regions), LOAD(page->Held), LOAD(page->Mapped));
	if (!shape_allowed(shape))
		return fail(FLAGSTONE_GEOMETRY, "%s: %u mutexes, %u entries, %u regions, %u held, %u mapped are out of their limits", name, shape->mutexes,
		            shape->entries, shape->regions, shape->held, shape->mapped);
	struct { const char *field; uint64_t is, expected; } follows[] = {
		{"RegionStride", LOAD(page->RegionStride), shape->stride}, {"MutexOffset", LOAD(page->MutexOffset), shape->mutex_offset},
		{"EntryOffset", LOAD(page->EntryOffset), shape->entry_offset}, {"RegionOffset", LOAD(page->RegionOffset), shape->region_offset},
		{"FileSize", LOAD(page->FileSize), shape->size},
	};
	for (size_t i = 0; i < sizeof follows / sizeof follows[0]; i++)
		if (follows[i].is != follows[i].expected)
			return header_differs(FLAGSTONE_GEOMETRY, name, follows[i].field, follows[i].is, follows[i].expected);
	if (size != shape->size)
		return header_differs(size < shape->size ? FLAGSTONE_TRUNCATED : FLAGSTONE_OVERSIZED, name, "the file's size", size, shape->size);
	if (LOAD(page->Ready) != FS_ControlReady && LOAD(page->Ready) != FS_ControlDestroyed)
		return header_differs(FLAGSTONE_NOTREADY, name, "Ready", LOAD(page->Ready), FS_ControlReady);
	uint64_t boot[2];
	if (!boot_id(boot) || boot[0] != LOAD(page->BootID[0]) || boot[1] != LOAD(page->BootID[1]))
		return header_differs(FLAGSTONE_STALEBOOT, name, "BootID", LOAD(page->BootID[0]), boot[0]);
	return FLAGSTONE_OK;
}

static void header_fill(struct FS_ControlHeader *page, const struct control_shape *shape)
{
	uint64_t boot[2] = {0, 0};
	boot_id(boot);
	STORE(page->Magic, FS_ControlMagic);
	STORE(page->ReadVersion, FS_Major);
	STORE(page->WriteVersion, FS_Major);
	STORE(page->Endian, FS_EndianMark);
	STORE(page->Compatible, FS_KnownCompatible);
	STORE(page->Incompatible, 0);
	STORE(page->Fingerprint, FS_Fingerprint);
	STORE(page->FileSize, shape->size);
	STORE(page->Mutexes, shape->mutexes);
	STORE(page->Entries, shape->entries);
	STORE(page->Regions, shape->regions);
	STORE(page->Held, shape->held);
	STORE(page->Mapped, shape->mapped);
	STORE(page->RegionStride, shape->stride);
	STORE(page->MutexOffset, shape->mutex_offset);
	STORE(page->EntryOffset, shape->entry_offset);
	STORE(page->RegionOffset, shape->region_offset);
	STORE(page->HashSeed, random_word());
	for (int i = 0; i < 2; i++) {
		STORE(page->DomainUUID[i], random_word());
		STORE(page->BootID[i], boot[i]);
	}
	STORE(page->Created, clock_wall_own());
	STORE(page->Checksum, header_checksum(page));
}

static uint32_t count_or(uint32_t count, uint64_t usual) { return count ? count : (uint32_t)usual; }

/* Opening, step 5: the file is empty or unfinished, InitByte is held. Ready last. */
static flagstone_status control_make(int fd, const struct domain_options *options)
{
	uint32_t entries = count_or(options->entries, FS_DefaultEntries);
	struct control_shape shape = control_shape_of(options->mutexes ? options->mutexes : entries > FS_DefaultMutexes ? entries : (uint32_t)FS_DefaultMutexes, entries,
	                                      count_or(options->regions, FS_DefaultRegions), count_or(options->held, FS_DefaultHeld),
	                                      count_or(options->mapped, FS_DefaultMapped));
	if (!shape_allowed(&shape))
		return fail(FLAGSTONE_OPTIONS, "make control: %u mutexes, %u entries, %u regions, %u held, %u mapped are out of their limits", shape.mutexes,
		            shape.entries, shape.regions, shape.held, shape.mapped);
	if (ftruncate(fd, 0) != 0)
		return fail_errno("empty control");
	flagstone_status status = file_reserve(fd, shape.size, options->group, "control");
	if (status != FLAGSTONE_OK)
		return status;
	struct FS_ControlHeader *page = mmap(NULL, FS_PageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return fail_errno("map control");
	header_fill(page, &shape);
	/* Pairs with every opener's look at Ready (create.pml BREAK_READY_FIRST). */
	atomic_store(&page->Ready, FS_ControlReady);
	munmap(page, FS_PageSize);
	return FLAGSTONE_OK;
}
