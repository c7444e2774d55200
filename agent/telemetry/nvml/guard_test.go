//go:build cgo

package nvml

import (
	"debug/elf"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const goNVML = "github.com/NVIDIA/go-nvml/pkg/nvml"

// An unguarded call ends the process of whoever has a driver without that function. So: only library*.go import go-nvml; each
// of their calls stands in a method that first returns unless has(…) names exactly the C symbols that go-nvml may choose for it;
// and what go-nvml returns is converted to status at once, for its String calls the library as well.
//
// trap 1
func TestEveryCallIsGuarded(t *testing.T) {
	t.Parallel()
	var decls []ast.Decl
	for _, path := range goFiles(t, ".") {
		file := parse(t, path)
		if strings.HasPrefix(path, "library") {
			decls = append(decls, file.Decls...)
			continue
		}
		for _, spec := range file.Imports {
			if strings.HasPrefix(spec.Path.Value, `"github.com/NVIDIA/go-nvml`) {
				t.Errorf("%s imports go-nvml: only library*.go may", path)
			}
		}
	}
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", goNVML).Output()
	if err != nil {
		t.Fatalf("find go-nvml: %v", err)
	}
	symbols := readBinding(t, strings.TrimSpace(string(dir)))
	guarded := 0
	for _, decl := range decls {
		function, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		calls := apiCalls(function)
		if len(calls) == 0 {
			continue
		}
		guarded++
		var want []string
		for _, call := range calls {
			c := symbols.of(call, map[string]bool{})
			if len(c) == 0 {
				t.Errorf("%s calls %s, of which no C symbol was found in go-nvml: has this test gone blind?", function.Name.Name, call)
			}
			want = append(want, c...)
		}
		slices.Sort(want)
		if got := guard(function); !slices.Equal(got, slices.Compact(want)) {
			t.Errorf("%s is guarded by %q, and may call %q", function.Name.Name, got, want)
		}
		checkStatus(t, function)
	}
	if guarded < 60 {
		t.Errorf("only %d guarded methods were found: has this test gone blind?", guarded)
	}
}

// A program linked with "bind now" would need every function of NVML at its start, on machines without a GPU too .
//
// trap 2
func TestNotBoundAtStart(t *testing.T) {
	t.Parallel()
	file, err := elf.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for tag, now := range map[elf.DynTag]uint64{elf.DT_FLAGS: uint64(elf.DF_BIND_NOW), elf.DT_FLAGS_1: uint64(elf.DF_1_NOW)} {
		values, err := file.DynValue(tag)
		if err != nil {
			t.Fatal(err)
		}
		for _, flags := range values {
			if flags&now != 0 {
				t.Errorf("%v has the flag to bind all symbols at start", tag)
			}
		}
	}
}

// guard gives the symbols of the if that the method must begin with; none when it doesn't.
func guard(function *ast.FuncDecl) (names []string) {
	first, ok := function.Body.List[0].(*ast.IfStmt)
	if !ok || first.Init != nil || first.Else != nil {
		return nil
	}
	not, ok := first.Cond.(*ast.UnaryExpr)
	if !ok || not.Op != token.NOT {
		return nil
	}
	call, ok := not.X.(*ast.CallExpr)
	if !ok {
		return nil
	}
	if has, ok := call.Fun.(*ast.SelectorExpr); !ok || has.Sel.Name != "has" {
		return nil
	}
	if _, returns := first.Body.List[len(first.Body.List)-1].(*ast.ReturnStmt); !returns {
		return nil
	}
	for _, arg := range call.Args {
		if literal, ok := arg.(*ast.BasicLit); ok {
			name, _ := strconv.Unquote(literal.Value)
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// apiCalls gives the methods of go-nvml that a function calls: through l.api, or on a device.
func apiCalls(function *ast.FuncDecl) (methods []string) {
	ast.Inspect(function.Body, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if inner, ok := selector.X.(*ast.SelectorExpr); ok && (inner.Sel.Name == "api" || inner.Sel.Name == "device") {
				methods = append(methods, selector.Sel.Name)
			}
		}
		return true
	})
	return methods
}

// checkStatus wants nothing done with a Return but the conversion.
func checkStatus(t *testing.T, function *ast.FuncDecl) {
	ast.Inspect(function.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "status" {
			return false
		}
		for _, arg := range call.Args {
			if used, ok := arg.(*ast.Ident); ok && used.Name == "ret" {
				t.Errorf("%s passes what go-nvml returned to something else than status", function.Name.Name)
			}
		}
		return true
	})
}

// binding is what go-nvml's source says: per function or method the names it uses, per variable what it may hold.
type binding struct {
	uses map[string][]string
	c    map[string][]string // C symbols by function of nvml.go
}

// of gives every C symbol that a name may end in.
func (b binding) of(name string, seen map[string]bool) (symbols []string) {
	if seen[name] {
		return nil
	}
	seen[name] = true
	symbols = append(symbols, b.c[name]...)
	for _, used := range b.uses[name] {
		symbols = append(symbols, b.of(used, seen)...)
	}
	return symbols
}

func readBinding(t *testing.T, dir string) binding {
	b := binding{map[string][]string{}, map[string][]string{}}
	for _, path := range goFiles(t, dir) {
		for _, decl := range parse(t, path).Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Body != nil && (d.Recv == nil || slices.Contains([]string{"library", "nvmlDevice", "nvmlEventSet"}, receiver(d))) {
					b.function(d)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok && len(v.Values) == 1 {
						b.assign(v.Names[0], v.Values[0])
					}
				}
			}
		}
	}
	return b
}

func receiver(d *ast.FuncDecl) string {
	kind := d.Recv.List[0].Type
	if pointer, ok := kind.(*ast.StarExpr); ok {
		kind = pointer.X
	}
	if name, ok := kind.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

func (b binding) assign(to, from ast.Expr) {
	name, ok1 := to.(*ast.Ident)
	value, ok2 := from.(*ast.Ident)
	if ok1 && ok2 && versioned(name.Name) {
		b.uses[name.Name] = append(b.uses[name.Name], value.Name)
	}
}

// versioned says whether go-nvml gives such names to C functions, and to variables that hold one of their versions.
func versioned(name string) bool {
	return strings.HasPrefix(name, "nvml") || strings.HasPrefix(name, "deviceGet")
}

func (b binding) function(d *ast.FuncDecl) {
	name := d.Name.Name
	ast.Inspect(d.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if len(n.Lhs) == 1 && n.Tok == token.ASSIGN {
				b.assign(n.Lhs[0], n.Rhs[0])
			}
		case *ast.CallExpr:
			switch called := n.Fun.(type) {
			case *ast.Ident:
				if versioned(called.Name) && called.Name != "nvmlDeviceHandle" {
					b.uses[name] = append(b.uses[name], called.Name)
				}
			case *ast.SelectorExpr:
				x, isName := called.X.(*ast.Ident)
				switch {
				case isName && x.Name == "C" && strings.HasPrefix(called.Sel.Name, "nvml"):
					b.c[name] = append(b.c[name], called.Sel.Name)
				case isName && (x.Name == "device" || x.Name == "set") && d.Recv != nil:
					b.uses[name] = append(b.uses[name], called.Sel.Name)
				}
			}
		}
		return true
	})
}

func goFiles(t *testing.T, dir string) (paths []string) {
	all, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no source in %s: %v", dir, err)
	}
	return slices.DeleteFunc(all, func(path string) bool { return strings.HasSuffix(path, "_test.go") })
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
