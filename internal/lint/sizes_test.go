package lint

import (
	"go/ast"
	"testing"
)

// The sizes up to which a file, a function and an interface are read with ease.
const (
	maxFile      = 500
	maxFunction  = 80
	maxInterface = 12
)

// exceptions are what may be larger, with the reason. The name is that of the
// file, the function or the interface, as the test reports it.
func exceptions() map[string]string {
	return map[string]string{
		"imapserver/backend.go Mailbox": "all that an open mailbox can do; both that implement it do all of it",
	}
}

func TestSizes(t *testing.T) {
	large := map[string]bool{}
	check := func(name, what string, n, most int) {
		if n <= most {
			return
		}
		large[name] = true
		if exceptions()[name] == "" {
			t.Errorf("%s has %d %s, more than %d: divide it, or give the reason in exceptions", name, n, what, most)
		}
	}
	for _, f := range goFiles(t, true) {
		check(f.path, "lines", f.fset.File(f.ast.Pos()).LineCount(), maxFile)
		if f.test {
			continue // a test may tell a long story in one piece
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				lines := f.fset.Position(n.End()).Line - f.fset.Position(n.Pos()).Line + 1
				check(f.path+" "+receiver(n)+n.Name.Name, "lines", lines, maxFunction)
			case *ast.TypeSpec:
				if i, ok := n.Type.(*ast.InterfaceType); ok {
					check(f.path+" "+n.Name.Name, "methods", i.Methods.NumFields(), maxInterface)
				}
			}
			return true
		})
	}
	for name := range exceptions() {
		if !large[name] {
			t.Errorf("exceptions names %s, which is not large", name)
		}
	}
}

// receiver returns the type of a method with a dot, or "".
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	e := fn.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name + "."
		default:
			return ""
		}
	}
}
