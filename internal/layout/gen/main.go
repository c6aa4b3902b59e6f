// Command gen turns spec/layout.json into the Go package layout and into the
// tables of spec/PROTOCOL.md.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Spec is the content of layout.json.
type Spec struct {
	Name        string
	Major       uint32
	Minor       uint32
	Fingerprint string // from minor 1 on: that of minor 0, which all have
	Constants   []Group
	Structs     []Struct
}

// Group is a set of constants under one heading.
type Group struct {
	Group     string
	Constants []Constant
}

// Constant is a number of the protocol.
type Constant struct {
	Name, Value, Doc string
	Since            uint32 // the minor version that added it
}

// Struct is a record in shared memory.
type Struct struct {
	Name   string
	Size   uint64
	Doc    string
	Fields []Field
}

// Field is one word, or Count equal words, of a Struct.
type Field struct {
	Name, Type, Writer, Order, Doc string
	Initial                        string // what it is when its struct is made; words, as Writer and Order
	Offset, Count                  uint64
	Since                          uint32 // the minor version that added it, in bytes that were reserved
}

func (f Field) width() uint64 { return map[string]uint64{"u32": 4, "u64": 8}[f.Type] }
func (f Field) size() uint64  { return f.width() * max(f.Count, 1) }

// doc is the meaning of a constant or field, and which minor version added it.
func doc(text string, since uint32) string {
	if since == 0 {
		return text
	}
	return fmt.Sprintf("%s (since minor %d)", text, since)
}

func main() {
	specPath := flag.String("spec", "spec/layout.json", "the layout")
	protocol := flag.String("protocol", "spec/PROTOCOL.md", "the document whose tables are replaced")
	out := flag.String("out", ".", "folder of the Go package")
	header := flag.String("c", "clients/c/src/layout.h", "the header for C")
	flag.Parse()
	if err := run(*specPath, *protocol, *out, *header); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(specPath, protocol, out, header string) error {
	raw, err := os.ReadFile(specPath)
	if err != nil {
		return err
	}
	var s Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("%s: %w", specPath, err)
	}
	if err := check(s); err != nil {
		return fmt.Errorf("%s: %w", specPath, err)
	}
	for name, text := range map[string]string{"layout.go": goSource(s), "layout_unsafe.go": goAssertions(s), "fields.go": goFields(s)} {
		src, err := format.Source([]byte(text))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(out, name), src, 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(header, []byte(cSource(s)), 0o644); err != nil {
		return err
	}
	document, err := os.ReadFile(protocol)
	if err != nil {
		return err
	}
	text, err := replaceTables(string(document), s)
	if err != nil {
		return fmt.Errorf("%s: %w", protocol, err)
	}
	return os.WriteFile(protocol, []byte(text), 0o644)
}

// check refuses fields that overlap, run over, are misaligned, out of order or not
// fully described, and minor versions that could not share memory with the others of their major.
func check(s Spec) error {
	errs := []error{checkMinor(s)}
	for _, st := range s.Structs {
		end := uint64(0)
		for _, f := range st.Fields {
			switch w := f.width(); {
			case w == 0:
				errs = append(errs, fmt.Errorf("%s.%s: unknown type %q", st.Name, f.Name, f.Type))
				continue
			case f.Offset%w != 0:
				errs = append(errs, fmt.Errorf("%s.%s: offset %d is not a multiple of %d", st.Name, f.Name, f.Offset, w))
			case f.Offset < end:
				errs = append(errs, fmt.Errorf("%s.%s: offset %d lies before the end %d of the field above", st.Name, f.Name, f.Offset, end))
			}
			end = f.Offset + f.size()
			for what, text := range map[string]string{"writer": f.Writer, "ordering": f.Order, "initial value": f.Initial, "meaning": f.Doc} {
				if text == "" {
					errs = append(errs, fmt.Errorf("%s.%s: no %s", st.Name, f.Name, what))
				}
			}
		}
		if end > st.Size || st.Size%8 != 0 {
			errs = append(errs, fmt.Errorf("%s: size %d, but its fields end at %d", st.Name, st.Size, end))
		}
	}
	return errors.Join(errs...)
}

// checkMinor refuses what was added by a minor version to come, and a minor
// version that is more than minor 0 and what was added since. That an addition
// takes reserved bytes only is check's: fields do not overlap.
func checkMinor(s Spec) error {
	var errs []error
	since := func(name string, minor uint32) {
		if minor > s.Minor {
			errs = append(errs, fmt.Errorf("%s: since minor %d, but this is %d", name, minor, s.Minor))
		}
	}
	for _, g := range s.Constants {
		for _, c := range g.Constants {
			since(c.Name, c.Since)
		}
	}
	for _, st := range s.Structs {
		for _, f := range st.Fields {
			since(st.Name+"."+f.Name, f.Since)
		}
	}
	if have := fmt.Sprintf("%#016x", fingerprint(s)); s.Fingerprint != have && (s.Minor > 0 || s.Fingerprint != "") {
		errs = append(errs, fmt.Errorf("fingerprint %q, but without what minor versions added it is %q: a minor version changes nothing, or a new major is needed", s.Fingerprint, have))
	}
	return errors.Join(errs...)
}

// fingerprint covers what makes two layouts unable to share memory: names,
// places and widths of fields and the values of constants, but not what minor
// versions add.
func fingerprint(s Spec) uint64 {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d\n", s.Name, s.Major)
	for _, g := range s.Constants {
		for _, c := range g.Constants {
			if !strings.HasPrefix(c.Name, "Default") && c.Since == 0 {
				fmt.Fprintf(h, "%s=%s\n", c.Name, c.Value)
			}
		}
	}
	for _, st := range s.Structs {
		fmt.Fprintf(h, "%s %d\n", st.Name, st.Size)
		for _, f := range st.Fields {
			if f.Since > 0 {
				continue
			}
			fmt.Fprintf(h, "%s %d %s %d\n", f.Name, f.Offset, f.Type, max(f.Count, 1))
		}
	}
	return binary.LittleEndian.Uint64(h.Sum(nil))
}

const head = "// Code generated by internal/layout/gen from spec/layout.json; DO NOT EDIT.\n\npackage layout\n\n"

func goSource(s Spec) string {
	var b strings.Builder
	b.WriteString(head)
	fmt.Fprintf(&b, "// Version of the layout.\nconst (\n\tMajor = %d\n\tMinor = %d\n\tFingerprint = %#016x\n)\n\n", s.Major, s.Minor, fingerprint(s))
	for _, g := range s.Constants {
		fmt.Fprintf(&b, "// %s.\nconst (\n", g.Group)
		for _, c := range g.Constants {
			fmt.Fprintf(&b, "\t%s = %s // %s\n", c.Name, c.Value, doc(c.Doc, c.Since))
		}
		b.WriteString(")\n\n")
	}
	for _, st := range s.Structs {
		fmt.Fprintf(&b, "// Size%[1]s is the size of a %[1]s in bytes.\nconst Size%[1]s = %[2]d\n\n", st.Name, st.Size)
		fmt.Fprintf(&b, "// %s: %s.\ntype %[1]s struct {\n", st.Name, st.Doc)
		end := uint64(0)
		for _, f := range st.Fields {
			if f.Offset > end {
				fmt.Fprintf(&b, "\t_ [%d]byte\n", f.Offset-end)
			}
			typ := map[string]string{"u32": "Uint32", "u64": "Uint64"}[f.Type]
			if f.Count > 1 {
				typ = "[" + strconv.FormatUint(f.Count, 10) + "]" + typ
			}
			fmt.Fprintf(&b, "\t%s %s // %d: %s (%s, %s)\n", f.Name, typ, f.Offset, doc(f.Doc, f.Since), f.Writer, f.Order)
			end = f.Offset + f.size()
		}
		if st.Size > end {
			fmt.Fprintf(&b, "\t_ [%d]byte\n", st.Size-end)
		}
		b.WriteString("}\n\n")
		fmt.Fprintf(&b, "// Offsets in a %s: who takes the address of a field touches its struct, who adds an offset does not.\nconst (\n", st.Name)
		for _, f := range st.Fields {
			fmt.Fprintf(&b, "\tOffset%s%s = %d\n", st.Name, f.Name, f.Offset)
		}
		b.WriteString(")\n\n")
		for _, f := range st.Fields {
			if f.Name == "Checksum" {
				fmt.Fprintf(&b, "// %sChecksummed is how many bytes of a %[1]s its checksum covers: those before it.\nconst %[1]sChecksummed = %[2]d\n\n", st.Name, f.Offset)
			}
		}
	}
	return b.String()
}

// goAssertions makes an index of a one-element array out of each difference:
// the compiler refuses anything but 0, so both directions are covered.
func goAssertions(s Spec) string {
	var b strings.Builder
	b.WriteString(head + "import \"unsafe\"\n\n// Sizes and offsets, asserted in both directions.\nvar (\n")
	assert := func(expr string, want uint64) {
		fmt.Fprintf(&b, "\t_ = [1]struct{}{}[%s-%d]\n", expr, want)
	}
	for _, st := range s.Structs {
		assert("unsafe.Sizeof("+st.Name+"{})", st.Size)
		for _, f := range st.Fields {
			assert(fmt.Sprintf("unsafe.Offsetof(%s{}.%s)", st.Name, f.Name), f.Offset)
		}
	}
	b.WriteString(")\n")
	return b.String()
}

const fieldTypes = `// Struct describes a struct of this package to those who print memory.
type Struct struct {
	Name, Doc string
	Size      uint64
	Fields    []Field
}

// Field is a word of Width bytes, or Count equal ones, of a Struct.
type Field struct {
	Name                 string
	Offset, Width, Count uint64
	Doc                  string
}

// Structs are all structs, by name.
var Structs = map[string]Struct{
`

// goFields makes a table of all fields.
func goFields(s Spec) string {
	var b strings.Builder
	b.WriteString(head + fieldTypes)
	for _, st := range s.Structs {
		fmt.Fprintf(&b, "%[1]q: {%[1]q, %[2]q, Size%[1]s, []Field{\n", st.Name, st.Doc)
		for _, f := range st.Fields {
			fmt.Fprintf(&b, "{%q, %d, %d, %d, %q},\n", f.Name, f.Offset, f.width(), max(f.Count, 1), doc(f.Doc, f.Since))
		}
		b.WriteString("}},\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// replaceTables fills every <!-- layout:NAME --> ... <!-- /layout --> of doc.
// It fails if the document names a table that is not there or leaves one out.
func replaceTables(doc string, s Spec) (string, error) {
	tables := map[string]string{"constants": constantTables(s), "version": versionTable(s)}
	for _, st := range s.Structs {
		tables[st.Name] = structTable(st)
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(doc, "<!-- layout:")
		b.WriteString(before)
		if !found {
			break
		}
		name, rest, ok := strings.Cut(rest, " -->")
		_, rest, closed := strings.Cut(rest, "<!-- /layout -->")
		table, known := tables[name]
		if !ok || !closed || !known {
			return "", fmt.Errorf("table %q: unknown, named twice or not closed", name)
		}
		delete(tables, name)
		fmt.Fprintf(&b, "<!-- layout:%s -->\n%s<!-- /layout -->", name, table)
		doc = rest
	}
	for name := range tables {
		return "", fmt.Errorf("no table %q", name)
	}
	return b.String(), nil
}

func versionTable(s Spec) string {
	return fmt.Sprintf("| major | minor | fingerprint |\n|---|---|---|\n| %d | %d | `%#016x` |\n", s.Major, s.Minor, fingerprint(s))
}

func constantTables(s Spec) string {
	var b strings.Builder
	for _, g := range s.Constants {
		fmt.Fprintf(&b, "\n**%s**\n\n| constant | value | meaning |\n|---|---|---|\n", g.Group)
		for _, c := range g.Constants {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Name, c.Value, doc(c.Doc, c.Since))
		}
	}
	b.WriteString("\n")
	return b.String()
}

func structTable(st Struct) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s; %d bytes.\n\n| offset | bytes | field | writer | ordering | initial | meaning |\n|---|---|---|---|---|---|---|\n", st.Name, st.Doc, st.Size)
	for _, f := range st.Fields {
		width := strconv.FormatUint(f.width(), 10)
		if f.Count > 1 {
			width += " x " + strconv.FormatUint(f.Count, 10)
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s | %s |\n", f.Offset, width, f.Name, f.Writer, f.Order, f.Initial, doc(f.Doc, f.Since))
	}
	return b.String()
}
