package cgroup

import (
	"fmt"
	"os"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"
)

// What systems say, as far as it counts here.
const (
	mountsV2 = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
25 22 0:5 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
31 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`
	// A container of Docker in the host's namespace of control groups: its own group is mounted alone.
	mountsBound = `652 648 0:52 / / rw,relatime master:221 - overlay overlay rw,lowerdir=/a:/b
655 652 0:26 /system.slice/docker-4f0c.scope /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw
`
	mountsV1 = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/a\040place rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	groupsV1 = "9:name=systemd:/\n4:memory:/jobs/one\n1:cpu,cpuacct:/jobs\n0::/\n"
)

func TestMemory_Recorded_TightestGroup(t *testing.T) {
	v2 := func(dir, limit, used, stat string) map[string]string {
		return map[string]string{dir + "/memory.max": limit, dir + "/memory.current": used, dir + "/memory.stat": stat}
	}
	v1 := func(dir, limit, used, stat string) map[string]string {
		dir = "sys/fs/cgroup/a place" + dir
		return map[string]string{dir + "/memory.limit_in_bytes": limit, dir + "/memory.usage_in_bytes": used, dir + "/memory.stat": stat}
	}
	const top = "sys/fs/cgroup"
	for name, c := range map[string]struct {
		group, mounts string
		files         []map[string]string
		want          Room
		ok            bool
	}{
		"v2, own limit": {
			"0::/user.slice/a.scope\n", mountsV2,
			[]map[string]string{v2(top+"/user.slice/a.scope", "1000000\n", "600000\n", "anon 500000\nfile 90000\ninactive_file 50000\nactive_file 40000\n")},
			Room{490000, 1000000, "/sys/fs/cgroup/user.slice/a.scope/memory.max"},
			true,
		},
		"v2, one above is tighter": {
			"0::/user.slice/a.scope\n", mountsV2,
			[]map[string]string{
				v2(top+"/user.slice/a.scope", "1000000\n", "0\n", ""),
				v2(top+"/user.slice", "2000000\n", "1900000\n", "inactive_file 1000\n"),
			},
			Room{101000, 2000000, "/sys/fs/cgroup/user.slice/memory.max"},
			true,
		},
		"v2, swap": {
			"0::/a\n", mountsV2,
			[]map[string]string{
				v2(top+"/a", "1000000\n", "900000\n", "anon 900000\n"),
				{top + "/a/memory.swap.max": "500000\n", top + "/a/memory.swap.current": "300000\n", "proc/meminfo": "SwapTotal:  2000 kB\nSwapFree:   1000 kB\n"},
			},
			Room{300000, 1000000, "/sys/fs/cgroup/a/memory.max"},
			true,
		},
		"v2, swap is full": {
			"0::/a\n", mountsV2,
			[]map[string]string{
				v2(top+"/a", "1000000\n", "900000\n", "anon 900000\n"),
				{top + "/a/memory.swap.max": "max\n", top + "/a/memory.swap.current": "0\n", "proc/meminfo": "SwapTotal:  2000 kB\nSwapFree:   0 kB\n"},
			},
			Room{100000, 1000000, "/sys/fs/cgroup/a/memory.max"},
			true,
		},
		"v2, max": {"0::/a\n", mountsV2, []map[string]string{v2(top+"/a", "max\n", "5\n", "inactive_file 1\n")}, Room{}, false},
		"v2, in a namespace of its own": {
			"0::/\n", mountsV2, []map[string]string{v2(top, "4096\n", "0\n", "")}, Room{4096, 4096, "/sys/fs/cgroup/memory.max"}, true,
		},
		"v2, own group mounted": {
			"0::/system.slice/docker-4f0c.scope\n", mountsBound,
			[]map[string]string{v2(top, "9000\n", "10000\n", "inactive_file 500\n")},
			Room{0, 9000, "/sys/fs/cgroup/memory.max"},
			true,
		},
		"v2, beyond what is mounted": {
			"0::/system.slice/docker-4f0cd.scope\n", mountsBound, []map[string]string{v2(top, "9000\n", "0\n", "")}, Room{}, false,
		},
		"v2, outside the namespace": {"0::/../other\n", mountsV2, []map[string]string{v2("sys/fs/other", "9\n", "0\n", "")}, Room{}, false},
		"v1, with v2 beside it": {
			groupsV1, mountsV1,
			[]map[string]string{
				v1("/jobs/one", "9223372036854771712\n", "1\n", ""),
				v1("/jobs", "5000\n", "3000\n", "inactive_file 7\ntotal_inactive_file 1000\n"),
			},
			Room{3000, 5000, "/sys/fs/cgroup/a place/jobs/memory.limit_in_bytes"},
			true,
		},
		"v1, more inactive than used": {
			groupsV1, mountsV1,
			[]map[string]string{v1("/jobs/one", "5000\n", "10\n", "total_inactive_file 90\n")},
			Room{5000, 5000, "/sys/fs/cgroup/a place/jobs/one/memory.limit_in_bytes"},
			true,
		},
		"v1, not mounted":  {groupsV1, mountsV2, nil, Room{}, false},
		"no usage":         {"0::/a\n", mountsV2, []map[string]string{{top + "/a/memory.max": "10\n"}}, Room{}, false},
		"no group":         {"", mountsV2, nil, Room{}, false},
		"nothing mounted":  {"0::/a\n", "", nil, Room{}, false},
		"nonsense":         {"::\n0\n0::a/../..\n", "1 2\n1 2 3 / - - cgroup2\n" + mountsV2, nil, Room{}, false},
		"a number no more": {"0::/a\n", mountsV2, []map[string]string{v2(top+"/a", "-1\n", "x\n", "")}, Room{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			add := func(name, text string) { root[name] = &fstest.MapFile{Data: []byte(text)} }
			add("proc/self/cgroup", c.group)
			add("proc/self/mountinfo", c.mounts)
			for _, files := range c.files {
				for name, text := range files {
					add(name, text)
				}
			}
			if got, ok := Memory(root); got != c.want || ok != c.ok {
				t.Fatalf("%+v, %v, want %+v, %v", got, ok, c.want, c.ok)
			}
		})
	}
}

func TestMemory_NoProc_NoLimit(t *testing.T) {
	if got, ok := Memory(fstest.MapFS{}); ok {
		t.Fatal(got)
	}
}

// Whatever the files say, it ends, and what is free is within the limit.
func TestMemory_AnyBytes_WithinTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root := fstest.MapFS{}
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"0::/a/b\n", groupsV1, mountsV1, mountsV2, mountsBound, "4096\n", "max\n", "18446744073709551615", "total_inactive_file 9\ninactive_file 9\n"}))
		for _, name := range []string{"proc/self/cgroup", "proc/self/mountinfo"} {
			root[name] = &fstest.MapFile{Data: []byte(text.Draw(t, name))}
		}
		for _, dir := range []string{"sys/fs/cgroup", "sys/fs/cgroup/a", "sys/fs/cgroup/a/b", "sys/fs/cgroup/a place/jobs"} {
			for _, v := range versions {
				for _, file := range []string{v.limit, v.used, "memory.stat"} {
					root[dir+"/"+file] = &fstest.MapFile{Data: []byte(text.Draw(t, file))}
				}
			}
		}
		if got, ok := Memory(root); ok && got.Free > got.Limit {
			t.Fatalf("%+v", got)
		}
	})
}

func ExampleMemory() {
	if room, ok := Memory(os.DirFS("/")); ok {
		fmt.Fprintln(os.Stderr, room.Free, "bytes left by", room.File)
	}
	// Output:
}
