package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
)

// report is what the table and the JSON file show.
type report struct {
	Header header   `json:"header"`
	Notes  []string `json:"notes,omitempty"`
	Rows   []row    `json:"rows"`
	Raw    []raw    `json:"raw"`
}

// header says where and how it was measured.
type header struct {
	CPU        string  `json:"cpu"`
	CPUs       int     `json:"cpus"`
	GOMAXPROCS int     `json:"gomaxprocs"`
	Go         string  `json:"go"`
	Kernel     string  `json:"kernel"`
	HugePages  string  `json:"huge_pages"` // for anonymous memory, in which the rivals are
	ShmemHuge  string  `json:"shmem_huge_pages"`
	Options    options `json:"options"`
}

func newHeader(o options) header {
	return header{
		CPU: cpuModel(), CPUs: runtime.NumCPU(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		Go:        runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		Kernel:    fileText("/proc/sys/kernel/osrelease"),
		HugePages: fileText("/sys/kernel/mm/transparent_hugepage/enabled"),
		ShmemHuge: fileText("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
		Options:   o,
	}
}

func fileText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// cpuModel returns the first model that /proc/cpuinfo names.
func cpuModel() string {
	for line := range strings.Lines(fileText("/proc/cpuinfo")) {
		if field, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(field) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func (h header) write(w io.Writer) {
	o := h.Options
	fmt.Fprintf(w, "%s, %d CPUs, GOMAXPROCS %d, %s, Linux %s\n", h.CPU, h.CPUs, h.GOMAXPROCS, h.Go, h.Kernel)
	fmt.Fprintf(w, "huge pages: anonymous %s, shared %s\n", h.HugePages, h.ShmemHuge)
	fmt.Fprintf(w, "caches of %d entries and others, keys of %d B, %d rounds, chunks of %v, seed %d\n\n",
		o.Entries, keySize, o.Pairs, o.Chunk, o.Seed)
}

func (r *report) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "measurement\tcache\tunit\tflagstone\trival\t\tratio\t95% interval\ttarget\tverdict")
	for _, row := range r.Rows {
		rival := "\t"
		if row.Rival != "" {
			rival = row.Rival + "\t" + figure(row.RivalMedian)
		}
		fmt.Fprintf(t, "%s\t%v\t%s\t%s\t%s\t%s\t%s to %s\t%s\t%s\n", row.Measurement, row.Shape, row.Unit, figure(row.Flagstone), rival,
			figure(row.Ratio), figure(row.Interval.Low), figure(row.Interval.High), row.Target, row.Verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
	return nil
}

// figure writes four digits or so.
func figure(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return fmt.Sprintf("%.4g", x)
}

func (t *target) String() string {
	switch {
	case t == nil:
		return ""
	case t.AtLeast:
		return fmt.Sprintf(">= %g", t.Limit)
	}
	return fmt.Sprintf("<= %g", t.Limit)
}

func (r *report) writeJSON(path string) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
