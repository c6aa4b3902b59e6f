/* What a call comes to, and what it has to say about it (section 21). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const status_names[FLAGSTONE_STATUSES] = {
	[FLAGSTONE_OK] = "ok", [FLAGSTONE_NO] = "no", [FLAGSTONE_BUSY] = "busy", [FLAGSTONE_FULL] = "full",
	[FLAGSTONE_KEYTOOLONG] = "keytoolong", [FLAGSTONE_VALUETOOLONG] = "valuetoolong", [FLAGSTONE_TOOLARGE] = "toolarge",
	[FLAGSTONE_NOTCOUNTER] = "notcounter", [FLAGSTONE_OVERFLOW] = "overflow", [FLAGSTONE_CLAIMLOST] = "claimlost",
	[FLAGSTONE_CORRUPT] = "corrupt", [FLAGSTONE_CLOSED] = "closed", [FLAGSTONE_FORKED] = "forked", [FLAGSTONE_DESTROYED] = "destroyed",
	[FLAGSTONE_LOST] = "lost", [FLAGSTONE_NOTFOUND] = "notfound", [FLAGSTONE_NOREGION] = "noregion", [FLAGSTONE_NOENTRY] = "noentry",
	[FLAGSTONE_NOMUTEX] = "nomutex", [FLAGSTONE_NOSPACE] = "nospace", [FLAGSTONE_NOMEMORY] = "nomemory",
	[FLAGSTONE_NODESCRIPTOR] = "nodescriptor", [FLAGSTONE_ACCESS] = "access", [FLAGSTONE_FILESYSTEM] = "filesystem",
	[FLAGSTONE_LOCKS] = "locks", [FLAGSTONE_MISSING] = "missing", [FLAGSTONE_FAULT] = "fault", [FLAGSTONE_STALEBOOT] = "staleboot",
	[FLAGSTONE_READONLY] = "readonly", [FLAGSTONE_OPTIONS] = "options", [FLAGSTONE_MAGIC] = "magic", [FLAGSTONE_ENDIAN] = "endian",
	[FLAGSTONE_VERSION] = "version", [FLAGSTONE_FEATURE] = "feature", [FLAGSTONE_FINGERPRINT] = "fingerprint",
	[FLAGSTONE_CHECKSUM] = "checksum", [FLAGSTONE_GEOMETRY] = "geometry", [FLAGSTONE_TRUNCATED] = "truncated",
	[FLAGSTONE_OVERSIZED] = "oversized", [FLAGSTONE_FOREIGN] = "foreign", [FLAGSTONE_NOTREADY] = "notready", [FLAGSTONE_UNSAFE] = "unsafe",
	[FLAGSTONE_UNATTACHED] = "unattached", [FLAGSTONE_NOSLAB] = "noslab", [FLAGSTONE_SLABEXISTS] = "slabexists",
	[FLAGSTONE_NOTHELD] = "notheld", [FLAGSTONE_TOOMANYHELD] = "toomanyheld", [FLAGSTONE_TOOMANYMAPPED] = "toomanymapped",
	[FLAGSTONE_RETIRED] = "retired", [FLAGSTONE_STATE] = "state", [FLAGSTONE_EXPIRY] = "expiry", [FLAGSTONE_UNSUPPORTED] = "unsupported",
	[FLAGSTONE_BUFFER] = "buffer", [FLAGSTONE_FAILED] = "failed",
};

static _Thread_local char error_text[512];

const char *flagstone_status_name(flagstone_status status)
{
	return (unsigned)status < FLAGSTONE_STATUSES ? status_names[status] : "unknown";
}

const char *flagstone_error_text(void)
{
	return error_text;
}

/* A text may tell of the one before, so it is made aside first. */
static flagstone_status fail(flagstone_status status, const char *format, ...)
{
	char text[sizeof error_text];
	va_list values;
	va_start(values, format);
	vsnprintf(text, sizeof text, format, values);
	va_end(values);
	memcpy(error_text, text, sizeof text);
	return status;
}

static flagstone_status errno_status(int error)
{
	switch (error) {
	case ENOENT: return FLAGSTONE_NOTFOUND;
	case EACCES: case EPERM: case EROFS: return FLAGSTONE_ACCESS;
	case ENOSPC: case EDQUOT: case EFBIG: return FLAGSTONE_NOSPACE;
	case ENOMEM: return FLAGSTONE_NOMEMORY;
	case EMFILE: case ENFILE: return FLAGSTONE_NODESCRIPTOR;
	case ELOOP: case ENOTDIR: case EISDIR: return FLAGSTONE_UNSAFE;
	case EINVAL: case ENAMETOOLONG: return FLAGSTONE_OPTIONS;
	case ENOSYS: return FLAGSTONE_UNSUPPORTED;
	case EFAULT: return FLAGSTONE_FAULT;
	default: return FLAGSTONE_FILESYSTEM;
	}
}

static flagstone_status fail_errno(const char *format, ...)
{
	int error = errno;
	char text[sizeof error_text];
	va_list values;
	va_start(values, format);
	vsnprintf(text, sizeof text, format, values);
	va_end(values);
	return fail(errno_status(error), "%.400s: %s", text, strerror(error));
}
