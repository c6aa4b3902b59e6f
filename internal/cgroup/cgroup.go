// Package cgroup says how much memory the control groups of this process leave it.
package cgroup

import (
	"bufio"
	"bytes"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Room is what the tightest of the process's control groups leaves.
type Room struct {
	Free, Limit uint64 // bytes
	File        string // the path of the file that states the limit
}

// Memory returns how many bytes more this process can use before the kernel has to
// kill in one of its control groups: its own or one above it, of version 1 or 2. Pages
// of files that nobody uses count as free. It is not ok where no limit can be read.
// Root is the root of the file system. Some 0.2 ms.
func Memory(root fs.FS) (tightest Room, ok bool) {
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return Room{}, false
	}
	own, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return Room{}, false
	}
	for line := range lines(own) {
		// hierarchy:controllers:path, where version 2 is hierarchy 0 without controllers
		field := strings.SplitN(line, ":", 3)
		if len(field) != 3 {
			continue
		}
		for _, v := range versions {
			if !slices.Contains(strings.Split(field[1], ","), v.controller) {
				continue
			}
			for _, dir := range v.above(mounts, field[2]) {
				if room, limited := v.room(root, dir); limited && (!ok || room.Free < tightest.Free) {
					tightest, ok = room, true
				}
			}
		}
	}
	return tightest, ok
}

// version is how a version of control groups calls things.
type version struct {
	controller   string // in proc/self/cgroup
	kind, option string // of the mount: file system type, and what is among its options
	limit, used  string // files
	swapLimit    string // files of what it may have outside of memory, or with that
	swapUsed     string
	unused       []string // keys in the file memory.stat: what the kernel takes back instead of refusing, of this group and those below it
}

var versions = []version{
	{"", "cgroup2", "", "memory.max", "memory.current", "memory.swap.max", "memory.swap.current", []string{"active_file", "inactive_file", "slab_reclaimable"}},
	{"memory", "cgroup", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes", []string{"total_active_file", "total_inactive_file"}},
}

// above returns the folders of a group and of those above it, as far as they are mounted.
func (v version) above(mounts []byte, group string) (dirs []string) {
	for line := range lines(mounts) {
		// id parent device root mountpoint options optional... - type source options
		field := strings.Fields(line)
		sep := slices.Index(field, "-")
		if sep < 6 || len(field) < sep+4 || field[sep+1] != v.kind {
			continue
		}
		if v.option != "" && !slices.Contains(strings.Split(field[sep+3], ","), v.option) {
			continue
		}
		root, point := unescape(field[3]), unescape(field[4])
		below, inside := strings.CutPrefix(group+"/", strings.TrimSuffix(root, "/")+"/")
		if !inside || strings.HasPrefix(group, "/..") {
			continue
		}
		point = strings.TrimPrefix(path.Clean(point), "/")
		for dir := path.Join(point, below); ; dir = path.Dir(dir) {
			dirs = append(dirs, dir)
			if dir == point || dir == "." {
				return dirs
			}
		}
	}
	return nil
}

// room reads what a group leaves; limited is false for one without limit.
func (v version) room(root fs.FS, dir string) (room Room, limited bool) {
	limit, limited := number(root, path.Join(dir, v.limit))
	used, known := number(root, path.Join(dir, v.used))
	if !limited || !known || limit >= unlimited {
		return Room{}, false
	}
	stat, _ := fs.ReadFile(root, path.Join(dir, "memory.stat")) // nothing is unused where it cannot be read
	for line := range lines(stat) {
		if key, n, _ := strings.Cut(line, " "); slices.Contains(v.unused, key) {
			unused, _ := strconv.ParseUint(strings.TrimSpace(n), 10, 64)
			used -= min(unused, used)
		}
	}
	used -= min(v.swap(root, dir), used)
	return Room{limit - min(used, limit), limit, "/" + path.Join(dir, v.limit)}, true
}

// swap returns how much of a group's memory the kernel could put elsewhere.
func (v version) swap(root fs.FS, dir string) uint64 {
	var free uint64
	text, _ := fs.ReadFile(root, "proc/meminfo")
	for line := range lines(text) {
		if field := strings.Fields(line); len(field) == 3 && field[0] == "SwapFree:" {
			kib, _ := strconv.ParseUint(field[1], 10, 32)
			free = kib << 10
		}
	}
	limit, limited := number(root, path.Join(dir, v.swapLimit))
	used, known := number(root, path.Join(dir, v.swapUsed))
	if limited && known {
		free = min(free, limit-min(used, limit))
	}
	return free
}

// unlimited is less than what version 1 states where there is no limit, the largest number of whole pages.
const unlimited = 1 << 62

// number reads a file with one number. The word max is none.
func number(root fs.FS, name string) (n uint64, ok bool) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, false
	}
	n, err = strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64)
	return n, err == nil
}

// unescape undoes what mountinfo does to spaces, tabs, newlines and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func lines(text []byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
			if !yield(s.Text()) {
				return
			}
		}
	}
}
