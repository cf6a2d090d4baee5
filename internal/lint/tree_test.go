package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/rookery-mail/rookery"

// root is the top of the tree.
const root = "../.."

// A goFile is one parsed file.
type goFile struct {
	path string // from the root, with slashes
	pkg  string // its folder: "imap", "mailstore/driver"
	test bool
	ast  *ast.File
	fset *token.FileSet
}

// at names a place for people.
func (f *goFile) at(pos token.Pos) string {
	return f.path + ":" + strconv.Itoa(f.fset.Position(pos).Line)
}

// imports returns what the file imports.
func (f *goFile) imports() (all []string) {
	for _, i := range f.ast.Imports {
		all = append(all, strings.Trim(i.Path.Value, `"`))
	}
	return all
}

// allFiles returns every file of the tree that is kept: names from the root.
func allFiles(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case d.IsDir() && slices.Contains([]string{".git", "bin", "rookery-demo"}, rel):
			return fs.SkipDir
		case d.IsDir() || !d.Type().IsRegular() || rel == ".git" || rel == "rookery" || strings.HasSuffix(rel, ".test") || strings.HasSuffix(rel, ".prof"):
			return nil // a file .git names the repository of a work tree; the others .gitignore names
		}
		all = append(all, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// parsed holds the tree, which all tests read.
type parsed struct {
	once  sync.Once
	files []*goFile
	err   error
}

func (p *parsed) parse(names []string) {
	fset := token.NewFileSet()
	for _, name := range names {
		if !strings.HasSuffix(name, ".go") || strings.Contains(name, "testdata/") {
			continue
		}
		f, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			p.err = err
			return
		}
		p.files = append(p.files, &goFile{path: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), ast: f, fset: fset})
	}
}

var tree parsed

// goFiles returns the Go files of the tree, with or without tests.
func goFiles(t *testing.T, tests bool) (all []*goFile) {
	t.Helper()
	tree.once.Do(func() { tree.parse(allFiles(t)) })
	if tree.err != nil {
		t.Fatal(tree.err)
	}
	for _, f := range tree.files {
		if tests || !f.test {
			all = append(all, f)
		}
	}
	return all
}

// packages returns the files that are not tests, by folder.
func packages(t *testing.T) map[string][]*goFile {
	t.Helper()
	all := map[string][]*goFile{}
	for _, f := range goFiles(t, false) {
		all[f.pkg] = append(all[f.pkg], f)
	}
	return all
}

// read returns the text of a file of the tree.
func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
