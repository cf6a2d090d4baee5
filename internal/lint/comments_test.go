package lint

import (
	"go/ast"
	"strings"
	"testing"
)

// TestPackagesAreDescribed: a package says what it is for, once.
func TestPackagesAreDescribed(t *testing.T) {
	for pkg, files := range packages(t) {
		n := 0
		for _, f := range files {
			if f.ast.Doc == nil {
				continue
			}
			n++
			want := "Package " + f.ast.Name.Name + " "
			if text := f.ast.Doc.Text(); f.ast.Name.Name != "main" && !strings.HasPrefix(text, want) {
				t.Errorf("%s: the package comment does not begin with %q", f.path, want)
			}
		}
		if n != 1 {
			t.Errorf("package %s has %d package comments, want 1", pkg, n)
		}
	}
}

// TestExportedIsDocumented: what others can use tells how.
func TestExportedIsDocumented(t *testing.T) {
	for _, f := range goFiles(t, false) {
		if f.ast.Name.Name == "main" {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				r := strings.TrimSuffix(receiver(d), ".")
				if d.Name.IsExported() && (r == "" || ast.IsExported(r)) && d.Doc == nil && !speaksForItself(d.Name.Name) {
					t.Errorf("%s: %s is not documented", f.at(d.Pos()), receiver(d)+d.Name.Name)
				}
			case *ast.GenDecl:
				checkSpecs(t, f, d)
			}
		}
	}
}

// speaksForItself reports whether every method of this name does the same.
func speaksForItself(name string) bool {
	return name == "Error" || name == "Unwrap" || name == "String"
}

// checkSpecs checks types, constants and variables. Those of a group may be
// documented together.
func checkSpecs(t *testing.T, f *goFile, g *ast.GenDecl) {
	for _, s := range g.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && g.Doc == nil && s.Doc == nil && s.Comment == nil {
				t.Errorf("%s: %s is not documented", f.at(s.Pos()), s.Name)
			}
			if i, ok := s.Type.(*ast.InterfaceType); ok && s.Name.IsExported() {
				checkMethods(t, f, s.Name.Name, i)
			}
		case *ast.ValueSpec:
			if s.Names[0].IsExported() && g.Doc == nil && s.Doc == nil && s.Comment == nil {
				t.Errorf("%s: %s is not documented", f.at(s.Pos()), s.Names[0])
			}
		}
	}
}

// checkMethods checks that each method of a seam says what it promises. Methods
// without a blank line between them may be documented together.
func checkMethods(t *testing.T, f *goFile, name string, i *ast.InterfaceType) {
	together := -1
	for _, m := range i.Methods.List {
		line := f.fset.Position(m.Pos()).Line
		documented := m.Doc != nil || m.Comment != nil || line == together
		if len(m.Names) > 0 && m.Names[0].IsExported() && !documented {
			t.Errorf("%s: %s.%s is not documented", f.at(m.Pos()), name, m.Names[0])
		}
		if documented {
			together = f.fset.Position(m.End()).Line + 1
		}
	}
}

// TestNames: a package is named after what it provides.
func TestNames(t *testing.T) {
	for pkg, files := range packages(t) {
		switch files[0].ast.Name.Name {
		case "util", "utils", "common", "types", "helpers", "misc", "base", "shared":
			t.Errorf("package %s has a name that says nothing", pkg)
		}
	}
}
