/*
 * Faults in mappings (section 19): a file that somebody truncated. The handler marks the domain object first and then puts zeros in the
 * place of the page, so that the access ends and whoever reads those zeros finds the mark afterwards (domain_ready).
 */
#include <sys/mman.h>

struct range { /* base 0: unused */
	_Atomic(uintptr_t) base;
	_Atomic(size_t) size;
	_Atomic(struct domain *) domain;
};

enum { RANGES = 256 };
struct ranges {
	struct range range[RANGES];
	_Atomic(struct ranges *) next;
};

/* Read by the handler at any instant; chunks are added and never freed, so that it needs no lock. */
static struct ranges ranges_first;
static struct sigaction fault_before;
static pthread_once_t fault_once = PTHREAD_ONCE_INIT;

/* The range that the address is in. Base is loaded last and compared again by nobody: a range in use does not change. */
static struct domain *fault_domain(uintptr_t address)
{
	for (struct ranges *chunk = &ranges_first; chunk; chunk = atomic_load(&chunk->next))
		for (int i = 0; i < RANGES; i++) {
			uintptr_t base = atomic_load(&chunk->range[i].base);
			if (base != 0 && address - base < atomic_load(&chunk->range[i].size))
				return atomic_load(&chunk->range[i].domain);
		}
	return NULL;
}

static void fault_chain(int signal, siginfo_t *info, void *context)
{
	if (fault_before.sa_flags & SA_SIGINFO)
		fault_before.sa_sigaction(signal, info, context);
	else if (fault_before.sa_handler != SIG_DFL && fault_before.sa_handler != SIG_IGN)
		fault_before.sa_handler(signal);
	else {
		/* The access happens again when this returns, and takes the default way; a signal that was sent does not. */
		struct sigaction usual;
		memset(&usual, 0, sizeof usual);
		usual.sa_handler = SIG_DFL;
		sigaction(signal, &usual, NULL);
		if (info->si_code <= 0)
			raise(signal);
	}
}

static void fault_handle(int signal, siginfo_t *info, void *context)
{
	int error = errno;
	uintptr_t page = (uintptr_t)info->si_addr & ~(uintptr_t)(FS_PageSize - 1);
	struct domain *d = info->si_code > 0 ? fault_domain((uintptr_t)info->si_addr) : NULL;
	if (!d) {
		fault_chain(signal, info, context);
		return;
	}
	uint32_t whole = FLAGSTONE_OK;
	atomic_compare_exchange_strong(&d->fate, &whole, FLAGSTONE_FAULT);
	if (mmap((void *)page, FS_PageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		fault_chain(signal, info, context);
	errno = error;
}

static void fault_install(void)
{
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_sigaction = fault_handle;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, &fault_before);
}

/* From here on faults in the range are caught. */
static flagstone_status fault_watch(struct domain *d, void *base, size_t size)
{
	pthread_once(&fault_once, fault_install);
	for (struct ranges *chunk = &ranges_first;;) {
		for (int i = 0; i < RANGES; i++) {
			struct domain *nobody = NULL;
			if (atomic_load(&chunk->range[i].domain) || !atomic_compare_exchange_strong(&chunk->range[i].domain, &nobody, d))
				continue;
			atomic_store(&chunk->range[i].size, size);
			atomic_store(&chunk->range[i].base, (uintptr_t)base);
			return FLAGSTONE_OK;
		}
		struct ranges *next = atomic_load(&chunk->next);
		if (!next) {
			struct ranges *fresh = calloc(1, sizeof *fresh);
			if (!fresh)
				return fail(FLAGSTONE_NOMEMORY, "no memory to watch a mapping of %zu bytes", size);
			if (atomic_compare_exchange_strong(&chunk->next, &next, fresh))
				next = fresh;
			else
				free(fresh);
		}
		chunk = next;
	}
}

/* Before the range is unmapped; base NULL: all of the domain's. */
static void fault_forget(struct domain *d, void *base)
{
	for (struct ranges *chunk = &ranges_first; chunk; chunk = atomic_load(&chunk->next))
		for (int i = 0; i < RANGES; i++) {
			struct range *range = &chunk->range[i];
			if (atomic_load(&range->domain) != d || (base && atomic_load(&range->base) != (uintptr_t)base))
				continue;
			atomic_store(&range->base, 0);
			atomic_store(&range->domain, NULL);
		}
}
