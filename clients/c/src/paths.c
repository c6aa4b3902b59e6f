/* Directories and files of a domain (sections 4 and 8): opened without following links, made under hidden names. */
#include <dirent.h>
#include <sys/statvfs.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

enum { HIDDEN_DIGITS = 16, NAME_MOST = 300 };

static bool name_valid(const char *name)
{
	size_t length = name ? strlen(name) : 0;
	return length >= 1 && length <= 64 && name[0] != '.' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == length;
}

/* --- What is opened --- */

static bool group_mine(gid_t group)
{
	gid_t groups[1024];
	if (group == getegid())
		return true;
	int count = getgroups(1024, groups);
	for (int i = 0; i < count; i++)
		if (groups[i] == group)
			return true;
	return false;
}

/* Type, owner and mode of something just opened. */
static flagstone_status file_safe(int fd, bool directory, bool group, const char *name)
{
	struct stat file;
	if (fstat(fd, &file) != 0)
		return fail_errno("look at %s", name);
	if (directory ? !S_ISDIR(file.st_mode) : !S_ISREG(file.st_mode))
		return fail(FLAGSTONE_UNSAFE, "%s: not a %s", name, directory ? "directory" : "regular file");
	if (file.st_uid != geteuid() && !(group && group_mine(file.st_gid)))
		return fail(FLAGSTONE_UNSAFE, "%s: belongs to user %u, this is %u", name, file.st_uid, geteuid());
	mode_t most = (directory ? 0700 : 0600) | (group ? (directory ? 0070 : 0060) : 0);
	if (file.st_mode & 0777 & ~most)
		return fail(FLAGSTONE_UNSAFE, "%s: has the mode %04o, at most %04o is safe", name, (unsigned)(file.st_mode & 07777), (unsigned)most);
	return FLAGSTONE_OK;
}

/* DIR itself may be reached by a link. */
static flagstone_status dir_open(const char *dir, int *fd)
{
	struct stat file;
	*fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0)
		return fail_errno("open directory %s", dir);
	if (fstat(*fd, &file) == 0 && (!(file.st_mode & S_IWOTH) || (file.st_mode & S_ISVTX)))
		return FLAGSTONE_OK;
	close(*fd);
	*fd = -1;
	return fail(FLAGSTONE_UNSAFE, "directory %s: all can write in it", dir);
}

/* Opens an entry of a directory, *fd being -1 if it fails. */
static flagstone_status file_open(int above, const char *name, bool directory, bool write, bool group, int *fd)
{
	int flags = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | (directory ? O_DIRECTORY | O_RDONLY : write ? O_RDWR : O_RDONLY);
	*fd = openat(above, name, flags);
	if (*fd < 0)
		return fail_errno("open %s", name);
	flagstone_status status = file_safe(*fd, directory, group, name);
	if (status != FLAGSTONE_OK) {
		close(*fd);
		*fd = -1;
	}
	return status;
}

/* --- What is made --- */

enum { RESERVE_PIECE = 16 << 20 };

/* Space for size bytes, reserved so that no store into them can fail, and the final mode. */
static flagstone_status file_reserve(int fd, uint64_t size, bool group, const char *name)
{
	struct statvfs system;
	if (fchmod(fd, group ? 0660 : 0600) != 0)
		return fail_errno("set the mode of %s", name);
	if (fstatvfs(fd, &system) == 0 && system.f_blocks != 0 && size / system.f_frsize > system.f_bavail)
		return fail(FLAGSTONE_NOSPACE, "reserve %llu bytes for %s: the file system has %llu", (unsigned long long)size, name,
		            (unsigned long long)system.f_bavail * system.f_frsize);
	/* In pieces, as tmpfs undoes what it has when a signal comes. */
	for (uint64_t at = 0; at < size;) {
		uint64_t piece = size - at < RESERVE_PIECE ? size - at : RESERVE_PIECE;
		if (fallocate(fd, 0, (off_t)at, (off_t)piece) == 0)
			at += piece;
		else if (errno != EINTR)
			return fail_errno("reserve %llu bytes for %s", (unsigned long long)size, name);
	}
	return FLAGSTONE_OK;
}

static void hidden_name(char hidden[NAME_MOST], const char *name)
{
	snprintf(hidden, NAME_MOST, ".%s.%016llx", name, (unsigned long long)random_word());
}

/* FLAGSTONE_NO: somebody swept the hidden name, begin again. What is there already is as good. */
static flagstone_status file_make(int above, const char *name, bool directory, bool group)
{
	char hidden[NAME_MOST];
	struct stat parent;
	hidden_name(hidden, name);
	int fd;
	if (directory) {
		if (mkdirat(above, hidden, 0700) != 0)
			return errno == ENOENT ? FLAGSTONE_NO : fail_errno("make directory %s", name); /* the one above was removed */
		fd = openat(above, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	} else {
		fd = openat(above, hidden, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	}
	if (fd < 0)
		return errno == ENOENT ? FLAGSTONE_NO : fail_errno("make %s", name);
	flagstone_status status = FLAGSTONE_OK;
	if (group && directory && (fstat(above, &parent) != 0 || (group_mine(parent.st_gid) && fchown(fd, (uid_t)-1, parent.st_gid) != 0)))
		status = fail_errno("share directory %s with the group of the one above", name);
	if (status == FLAGSTONE_OK && fchmod(fd, directory ? (group ? 02770 : 0700) : (group ? 0660 : 0600)) != 0)
		status = fail_errno("set the mode of %s", name);
	close(fd);
	if (status == FLAGSTONE_OK && syscall(SYS_renameat2, above, hidden, above, name, RENAME_NOREPLACE) != 0)
		status = errno == EEXIST ? FLAGSTONE_OK : errno == ENOENT ? FLAGSTONE_NO : fail_errno("rename %s to %s", hidden, name);
	else if (status == FLAGSTONE_OK)
		return FLAGSTONE_OK;
	unlinkat(above, hidden, directory ? AT_REMOVEDIR : 0);
	return status;
}

/* Opens, and makes if it is not there and wanted. FLAGSTONE_NO: begin again. */
static flagstone_status file_have(int above, const char *name, bool directory, bool create, bool write, bool group, int *fd)
{
	flagstone_status status = file_open(above, name, directory, write, group, fd);
	if (status != FLAGSTONE_NOTFOUND || !create)
		return status;
	status = file_make(above, name, directory, group);
	if (status != FLAGSTONE_OK)
		return status;
	status = file_open(above, name, directory, write, group, fd);
	return status == FLAGSTONE_NOTFOUND ? FLAGSTONE_NO : status;
}

/* --- What is removed --- */

/* Calls each for every name in the directory, until it returns false. The names are read before anything is done. */
static void names_each(int dir, bool (*each)(void *context, int dir, const char *name), void *context)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = copy < 0 ? NULL : fdopendir(copy);
	if (!stream) {
		if (copy >= 0)
			close(copy);
		return;
	}
	for (struct dirent *entry; (entry = readdir(stream)) != NULL;)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && !each(context, dir, entry->d_name))
			break;
	closedir(stream);
}

/* Is it a hidden name, and one of `of` (NULL: any)? */
static bool name_hidden(const char *name, const char *of)
{
	size_t length = strlen(name);
	if (name[0] != '.' || length < 3 + HIDDEN_DIGITS || name[length - HIDDEN_DIGITS - 1] != '.' ||
	    strspn(name + length - HIDDEN_DIGITS, "0123456789abcdef") != HIDDEN_DIGITS)
		return false;
	size_t inner = length - HIDDEN_DIGITS - 2;
	return !of || (inner == strlen(of) && strncmp(name + 1, of, inner) == 0);
}

static bool unlink_each(void *context, int dir, const char *name)
{
	(void)context;
	unlinkat(dir, name, 0);
	return true;
}

/* Removes a directory of a hidden name: as an empty one, or else what its remover left in it first. */
static bool hidden_remove(int above, const char *name)
{
	if (unlinkat(above, name, 0) == 0 || unlinkat(above, name, AT_REMOVEDIR) == 0)
		return true;
	int fd = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return false;
	names_each(fd, unlink_each, NULL);
	close(fd);
	return unlinkat(above, name, AT_REMOVEDIR) == 0;
}

struct sweep {
	const char *of;
	uint64_t removed;
};

static bool sweep_each(void *context, int dir, const char *name)
{
	struct sweep *sweep = context;
	if (name_hidden(name, sweep->of) && hidden_remove(dir, name))
		sweep->removed++;
	return true;
}

static uint64_t hidden_sweep(int dir, const char *of)
{
	struct sweep sweep = {of, 0};
	names_each(dir, sweep_each, &sweep);
	return sweep.removed;
}

/* Destroying, steps 5 to 7, InitByte held: the version directory gets a hidden name and goes, then the one above if nothing is left. */
static flagstone_status version_remove(int dir, int domain, const char *folder, const char *version)
{
	char hidden[NAME_MOST];
	hidden_name(hidden, version);
	if (syscall(SYS_renameat2, domain, version, domain, hidden, RENAME_NOREPLACE) != 0 && errno != ENOENT)
		return fail_errno("rename %s/%s to %s", folder, version, hidden);
	hidden_sweep(domain, NULL);
	unlinkat(dir, folder, AT_REMOVEDIR);
	hidden_sweep(dir, folder);
	return FLAGSTONE_OK;
}

static bool segment_file_name(const char *name, uint32_t *kind, uint64_t *id)
{
	size_t prefix = strncmp(name, "slab-", 5) == 0 ? 5 : strncmp(name, "app-", 4) == 0 ? 4 : 0;
	if (!prefix || strlen(name) != prefix + 16 || strspn(name + prefix, "0123456789abcdef") != 16)
		return false;
	*kind = prefix == 5 ? (uint32_t)FS_KindSlab : (uint32_t)FS_KindApplication;
	*id = strtoull(name + prefix, NULL, 16);
	return true;
}
