/* The hash of keys and headers (section 6, Hash). */
#ifndef FLAGSTONE_HASH_H
#define FLAGSTONE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3-64 of bytes of this process's own memory. */
static uint64_t hash_xxh3(const void *bytes, size_t length, uint64_t seed);

/* The hash of a key that is the application's own hash: mix(hash ^ seed). */
static uint64_t hash_mix(uint64_t x);

#endif
