// SPDX-License-Identifier: MIT
/*
 * Preloaded: a made-up machine for a tool that knows nothing of it.
 *
 * FAKE_ROOT     absolute paths below the directories in `places` are looked up under this directory
 * FAKE_RELEASE  what uname() says
 * FAKE_LOG      calls that load and remove modules are appended to this file, one a line
 * FAKE_RESULTS  "name=errno name=errno": which of those calls fail; the others succeed, and show in FAKE_ROOT/sys
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static const char *const places[] = {
	"/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d",
	"/etc/depmod.d", "/run/depmod.d", "/usr/local/lib/depmod.d", "/usr/lib/depmod.d", "/lib/depmod.d",
	"/etc/modprobe.conf", "/lib/modules", "/usr/lib/modules", "/proc/cmdline", "/proc/modules", "/sys/module",
	"/sys/kernel/security", NULL
};

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

static const char *place_of(const char *path, char *buffer)
{
	const char *root = getenv("FAKE_ROOT");
	int i;

	if (!root || !path || path[0] != '/')
		return path;
	for (i = 0; places[i]; i++) {
		size_t length = strlen(places[i]);
		if (!strncmp(path, places[i], length) && (!path[length] || path[length] == '/')) {
			snprintf(buffer, PATH_MAX, "%s%s", root, path);
			return buffer;
		}
	}
	return path;
}

#define PLACE char buffer[PATH_MAX]; path = place_of(path, buffer)
#define MODE mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) \
	{ va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { PLACE; MODE; REAL(open); return real(path, flags, mode); }
int open64(const char *path, int flags, ...) { PLACE; MODE; REAL(open64); return real(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { PLACE; MODE; REAL(openat); return real(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...)
{
	PLACE; MODE; REAL(openat64);
	return real(at, path, flags, mode);
}
FILE *fopen(const char *path, const char *mode) { PLACE; REAL(fopen); return real(path, mode); }
FILE *fopen64(const char *path, const char *mode) { PLACE; REAL(fopen64); return real(path, mode); }
DIR *opendir(const char *path) { PLACE; REAL(opendir); return real(path); }
int stat(const char *path, struct stat *into) { PLACE; REAL(stat); return real(path, into); }
int stat64(const char *path, struct stat64 *into) { PLACE; REAL(stat64); return real(path, into); }
int lstat(const char *path, struct stat *into) { PLACE; REAL(lstat); return real(path, into); }
int lstat64(const char *path, struct stat64 *into) { PLACE; REAL(lstat64); return real(path, into); }
int fstatat(int at, const char *path, struct stat *into, int flags)
{
	PLACE; REAL(fstatat);
	return real(at, path, into, flags);
}
int fstatat64(int at, const char *path, struct stat64 *into, int flags)
{
	PLACE; REAL(fstatat64);
	return real(at, path, into, flags);
}
int access(const char *path, int mode) { PLACE; REAL(access); return real(path, mode); }
int faccessat(int at, const char *path, int mode, int flags)
{
	PLACE; REAL(faccessat);
	return real(at, path, mode, flags);
}
ssize_t readlink(const char *path, char *into, size_t size) { PLACE; REAL(readlink); return real(path, into, size); }
int mkdir(const char *path, mode_t mode) { PLACE; REAL(mkdir); return real(path, mode); }

int uname(struct utsname *into)
{
	const char *release = getenv("FAKE_RELEASE");
	REAL(uname);
	int result = real(into);

	if (!result && release)
		snprintf(into->release, sizeof(into->release), "%s", release);
	return result;
}

static void note(const char *call, const char *name, const char *rest)
{
	const char *path = getenv("FAKE_LOG");
	FILE *stream = path ? fopen(path, "ae") : NULL;

	if (!stream)
		return;
	fprintf(stream, "%s %s %s\n", call, name, rest);
	fclose(stream);
}

/* The errno that FAKE_RESULTS has for a name; 0 for success. */
static int result_of(const char *name)
{
	const char *at = getenv("FAKE_RESULTS");
	size_t length = strlen(name);

	for (; at && *at; at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL)
		if (!strncmp(at, name, length) && at[length] == '=')
			return atoi(at + length + 1);
	return 0;
}

static void write_file(const char *name, const char *file, const char *text)
{
	char path[PATH_MAX];
	FILE *stream;

	snprintf(path, sizeof(path), "/sys/module/%s/%s", name, file);
	stream = fopen(path, "we");
	if (stream) {
		fputs(text, stream);
		fclose(stream);
	}
}

/* The module's name, from its .modinfo; "?" for one that says none, or that is compressed. */
static void name_of(const char *image, size_t size, char *into, size_t room)
{
	const char *found = memmem(image, size, "\0name=", 6);

	snprintf(into, room, "%s", found ? found + 6 : "?");
}

static long load(const char *call, const void *image, size_t size, const char *arguments, const char *extra)
{
	char name[256], rest[PATH_MAX], path[PATH_MAX];
	int error;

	name_of(image, size, name, sizeof(name));
	error = result_of(name);
	snprintf(path, sizeof(path), "/sys/module/%s/initstate", name);
	if (!error && !access(path, F_OK))
		error = EEXIST;
	snprintf(rest, sizeof(rest), "[%s]%s -> %d", arguments, extra, error);
	note(call, name, rest);
	if (error) {
		errno = error;
		return -1;
	}
	snprintf(path, sizeof(path), "/sys/module/%s", name);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "/sys/module/%s/holders", name);
	mkdir(path, 0755);
	write_file(name, "initstate", "live\n");
	write_file(name, "refcnt", "0\n");
	return 0;
}

long init_module(const void *image, unsigned long size, const char *arguments)
{
	return load("load", image, size, arguments, "");
}

static long load_file(int file, const char *arguments, int flags)
{
	struct stat status;
	char extra[32] = "";
	long result;
	void *image;

	if (fstat(file, &status) < 0)
		return -1;
	image = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	if (image == MAP_FAILED)
		return -1;
	if (flags)
		snprintf(extra, sizeof(extra), " flags=%d", flags);
	result = load("load", image, status.st_size, arguments, extra);
	munmap(image, status.st_size);
	return result;
}

int delete_module(const char *name, unsigned int flags)
{
	char rest[32], path[PATH_MAX];
	int error = result_of(name);

	snprintf(rest, sizeof(rest), "flags=%u -> %d", flags, error);
	note("remove", name, rest);
	if (error) {
		errno = error;
		return -1;
	}
	snprintf(path, sizeof(path), "%s/sys/module/%s/initstate", getenv("FAKE_ROOT") ?: "", name);
	unlink(path);
	snprintf(path, sizeof(path), "%s/sys/module/%s/refcnt", getenv("FAKE_ROOT") ?: "", name);
	unlink(path);
	snprintf(path, sizeof(path), "%s/sys/module/%s/holders", getenv("FAKE_ROOT") ?: "", name);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/sys/module/%s", getenv("FAKE_ROOT") ?: "", name);
	rmdir(path);
	return 0;
}

long syscall(long number, ...)
{
	long a, b, c, d, e, f;
	va_list rest;
	REAL(syscall);

	va_start(rest, number);
	a = va_arg(rest, long);
	b = va_arg(rest, long);
	c = va_arg(rest, long);
	d = va_arg(rest, long);
	e = va_arg(rest, long);
	f = va_arg(rest, long);
	va_end(rest);
	if (number == SYS_finit_module)
		return load_file((int)a, (const char *)b, (int)c);
	if (number == SYS_init_module)
		return init_module((const void *)a, (unsigned long)b, (const char *)c);
	if (number == SYS_delete_module)
		return delete_module((const char *)a, (unsigned int)b);
	return real(number, a, b, c, d, e, f);
}
