package lint

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var quoted = regexp.MustCompile("`([a-z0-9./]+)`")

// architecture reads ARCHITECTURE.md: the packages of its table from above to
// below, and those that stand beside them.
func architecture(t *testing.T) (table, beside []string) {
	t.Helper()
	in := ""
	for _, line := range strings.Split(read(t, "ARCHITECTURE.md"), "\n") {
		switch {
		case strings.HasPrefix(line, "| package |"):
			in = "table"
		case strings.HasPrefix(line, "Beside them:"):
			in = "beside"
		case line == "":
			in = ""
		}
		switch in {
		case "table":
			cell := strings.SplitN(line, "|", 3)[1]
			for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
				table = append(table, m[1])
			}
		case "beside":
			for _, m := range quoted.FindAllStringSubmatch(line, -1) {
				beside = append(beside, strings.TrimSuffix(m[1], "/"))
			}
		}
	}
	if len(table) < 10 || len(beside) < 2 {
		t.Fatalf("ARCHITECTURE.md: found no table of packages (%d rows, %d beside)", len(table), len(beside))
	}
	return table, beside
}

// ours returns the packages of this module that a package imports.
func ours(files []*goFile) []string {
	all := map[string]bool{}
	for _, f := range files {
		for _, i := range f.imports() {
			if rest, ok := strings.CutPrefix(i, module+"/"); ok {
				all[rest] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func isBeside(beside []string, pkg string) bool {
	return slices.ContainsFunc(beside, func(b string) bool { return pkg == b || strings.HasPrefix(pkg, b+"/") })
}

// TestImportsPointDown checks the import graph against ARCHITECTURE.md.
func TestImportsPointDown(t *testing.T) {
	table, beside := architecture(t)
	pkgs := packages(t)
	for pkg, files := range pkgs {
		rank := slices.Index(table, pkg)
		if rank < 0 {
			if !isBeside(beside, pkg) {
				t.Errorf("%s is not in ARCHITECTURE.md; give it a line in the table of packages, or name it beside them", pkg)
			}
			continue
		}
		for _, to := range ours(files) {
			if r := slices.Index(table, to); r < rank {
				t.Errorf("%s imports %s, which is above it or beside the table of ARCHITECTURE.md", pkg, to)
			}
		}
	}
	for _, pkg := range table {
		if pkgs[pkg] == nil {
			t.Errorf("ARCHITECTURE.md names %s, and there is no such package", pkg)
		}
	}
}

// TestApart sees that some packages do not know of each other, over no detour.
func TestApart(t *testing.T) {
	pkgs := packages(t)
	for from, never := range map[string][]string{
		"imapserver": {"mailstore", "mailstore/driver", "imapmodel", "imapstore"},
		"mailstore":  {"imapserver", "imapwire", "mailstore/pebblekv", "mailstore/bloblog", "mailstore/memkv"},
		"imapmodel":  {"mailstore", "mailstore/driver"},
		"imaptest":   {"imap", "imapserver", "imapwire", "imapmodel", "memory"}, // it must not share our mistakes
		"message":    {"imapwire", "mailindex"},
	} {
		seen := map[string]bool{}
		var walk func(pkg string)
		walk = func(pkg string) {
			for _, to := range ours(pkgs[pkg]) {
				if !seen[to] {
					seen[to] = true
					walk(to)
				}
			}
		}
		walk(from)
		for _, to := range never {
			if seen[to] {
				t.Errorf("%s imports %s, itself or through others", from, to)
			}
		}
	}
}

// TestExamplesArePublic sees that an example shows what anybody can write.
func TestExamplesArePublic(t *testing.T) {
	for pkg, files := range packages(t) {
		if !strings.HasPrefix(pkg, "examples/") {
			continue
		}
		for _, to := range ours(files) {
			if strings.Contains("/"+to+"/", "/internal/") {
				t.Errorf("%s imports %s, which a program elsewhere cannot", pkg, to)
			}
		}
	}
}

// TestFrameworkIsLight sees that who imports the framework does not get the
// daemon's dependencies with it.
func TestFrameworkIsLight(t *testing.T) {
	allowed := []string{module, "golang.org/x/text/", "golang.org/x/tools/txtar", "github.com/emersion/go-sasl", "github.com/klauspost/compress/"}
	pkgs := packages(t)
	for _, pkg := range []string{"imap", "imapwire", "message", "mailindex", "imapserver", "imapmodel", "memory", "imaptest"} {
		for _, f := range pkgs[pkg] {
			for _, i := range f.imports() {
				if isStandard(i) || slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(i, a) }) {
					continue
				}
				t.Errorf("%s imports %s: programs that only want the framework would need it too", f.path, i)
			}
		}
	}
}

func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// TestDependenciesHaveReasons sees that docs/dependencies.md names every module
// that we import.
func TestDependenciesHaveReasons(t *testing.T) {
	reasons := read(t, "docs/dependencies.md")
	missing := map[string]bool{}
	for _, f := range goFiles(t, true) {
		for _, i := range f.imports() {
			if isStandard(i) || strings.HasPrefix(i, module) {
				continue
			}
			if mod := moduleOf(t, i); !named(reasons, mod) {
				missing[mod] = true
			}
		}
	}
	for mod := range missing {
		t.Errorf("docs/dependencies.md does not say why %s is needed", mod)
	}
}

// named reports whether a table names a module, whole or, beside one of the
// same owner, by its last part.
func named(table, mod string) bool {
	return strings.Contains(table, "`"+mod+"`") || strings.Contains(table, "`"+mod[strings.LastIndex(mod, "/")+1:]+"`")
}

// moduleOf returns the module of go.mod that has a package.
func moduleOf(t *testing.T, pkg string) string {
	t.Helper()
	best := ""
	for _, line := range strings.Split(read(t, "go.mod"), "\n") {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) >= 2 && (pkg == fields[0] || strings.HasPrefix(pkg, fields[0]+"/")) && len(fields[0]) > len(best) {
			best = fields[0]
		}
	}
	if best == "" {
		t.Fatalf("go.mod has no module for %s", pkg)
	}
	return best
}
