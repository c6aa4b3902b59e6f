/*
 * The Flagstone client, one translation unit: compile this file and link with -pthread. The parts are src/; each has one job and uses
 * only what stands above it, but for the declarations in domain.h, slab.h and handle.h.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "flagstone.h"

#include "src/layout.h"

#include "src/hash.h"

#include "src/domain.h"

#include "src/slab.h"

#include "src/handle.h"

#include "src/hash.c"

/* The domain: sections 4, 5, 7 to 12, 18. */
#include "src/errors.c"
#include "src/sys.c"
#include "src/fault.c"
#include "src/count.c"
#include "src/lock.c"
#include "src/doorbell.c"
#include "src/paths.c"
#include "src/control.c"
#include "src/region.c"
#include "src/directory.c"
#include "src/steward.c"
#include "src/service.c"
#include "src/open.c"
#include "src/fork.c"
#include "src/gc.c"
#include "src/repair.c"

/* Slabs: sections 6, 13, 14, 17, 20. */
#include "src/bytes.c"
#include "src/geometry.c"
#include "src/index.c"
#include "src/order.c"
#include "src/cells.c"
#include "src/record.c"
#include "src/rebuild.c"
#include "src/column.c"
#include "src/view.c"
#include "src/read.c"
#include "src/write.c"
#include "src/tiers.c"
#include "src/between.c"
#include "src/check.c"
#include "src/dump.c"

/* The surface: handles, sections 15 and 16. */
#include "src/handle.c"
#include "src/namespace.c"
#include "src/access.c"
#include "src/claim.c"
#include "src/load.c"
#include "src/evict.c"
#include "src/clear.c"
#include "src/scan.c"
#include "src/look.c"
#include "src/slabs.c"
#include "src/peers.c"
#include "src/duties.c"
