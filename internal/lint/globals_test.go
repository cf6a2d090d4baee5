package lint

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// TestNoInit: nothing registers itself; who needs something calls for it.
func TestNoInit(t *testing.T) {
	for _, f := range goFiles(t, true) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init()", f.at(fn.Pos()))
			}
		}
	}
}

// TestNoGlobalState: two servers run in one process, so packages have no
// variables that change. What may stand there is: errors to compare with,
// files that are embedded, assertions about types, and tables, for which Go has
// no constants: unexported, and written by nobody.
func TestNoGlobalState(t *testing.T) {
	for pkg, files := range packages(t) {
		vars := map[string]string{} // tables, and where
		for _, f := range files {
			for _, d := range f.ast.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.VAR {
					continue
				}
				for _, s := range g.Specs {
					checkVar(t, f, g, s.(*ast.ValueSpec), vars)
				}
			}
		}
		for _, f := range files {
			checkWrites(t, f, pkg, vars)
		}
	}
}

// checkVar checks the declaration of variables and notes those that must not
// be written.
func checkVar(t *testing.T, f *goFile, g *ast.GenDecl, v *ast.ValueSpec, vars map[string]string) {
	embedded := g.Doc != nil && strings.Contains(commentText(g.Doc), "//go:embed") || v.Doc != nil && strings.Contains(commentText(v.Doc), "//go:embed")
	for _, name := range v.Names {
		n := name.Name
		switch {
		case n == "_":
		case strings.HasPrefix(n, "err") || strings.HasPrefix(n, "Err"):
			vars[n] = f.at(name.Pos())
		case name.IsExported():
			t.Errorf("%s: variable %s is exported: anybody could change it", f.at(name.Pos()), n)
		case len(v.Values) == 0 && !embedded:
			t.Errorf("%s: variable %s has no value, so it is there to be changed", f.at(name.Pos()), n)
		case mentions(v, "sync") || mentions(v, "atomic"):
			t.Errorf("%s: variable %s is state: put it where its users can have one each", f.at(name.Pos()), n)
		default:
			vars[n] = f.at(name.Pos())
		}
	}
}

func commentText(g *ast.CommentGroup) string {
	var b strings.Builder
	for _, c := range g.List {
		b.WriteString(c.Text)
	}
	return b.String()
}

// mentions reports whether a package is named in a declaration.
func mentions(n ast.Node, pkg string) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == pkg {
				found = true
			}
		}
		return !found
	})
	return found
}

// checkWrites finds what writes to one of vars, to a part of it, or takes its
// address.
func checkWrites(t *testing.T, f *goFile, pkg string, vars map[string]string) {
	complain := func(e ast.Expr) {
		if at, ok := vars[base(e)]; ok {
			t.Errorf("%s: %s of package %s is written (it is declared at %s)", f.at(e.Pos()), base(e), pkg, at)
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, e := range n.Lhs {
					complain(e)
				}
			}
		case *ast.IncDecStmt:
			complain(n.X)
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				complain(n.X)
			}
		case *ast.CallExpr:
			if fn, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && (fn.Name == "delete" || fn.Name == "clear" || fn.Name == "copy") {
				complain(n.Args[0])
			}
		}
		return true
	})
}

// base is the variable that an expression is a part of.
func base(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x.Name
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return ""
		}
	}
}
