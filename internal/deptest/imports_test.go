package deptest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sdiff/sdiff"

// imports lists, for each package of the module, the packages of the module it
// may import in non-test files. A package missing from the table is an error.
// Rows come in the order of the layers: a row imports what stands above it.
var imports = map[string][]string{
	"internal/version": {},
	"internal/deptest": {},
	"internal/chaos":   {},

	// No I/O, no clock, no goroutine; see pure.
	"internal/wire": {},
	"merkle":        {},
	"diff":          {"internal/wire", "merkle"},

	"stream":                    {"internal/wire", "merkle"},
	"transport":                 {"internal/wire"},
	"transport/transporttest":   {"transport"},
	"replica/store":             {"internal/wire", "merkle", "stream"},
	"replica/store/badgerstore": {"internal/wire", "merkle", "replica/store", "stream"},
	"replica/store/storetest":   {"merkle", "replica/store", "stream"},

	"replica": {"diff", "internal/wire", "merkle", "replica/store", "stream", "transport"},

	// The programs may use everything below them.
	"internal/faultnet": {"transport"},
	"internal/control":  {"internal/version", "merkle", "replica", "replica/store", "stream"},
	"demo":              {"diff", "internal/version", "merkle", "replica", "replica/store", "replica/store/badgerstore", "stream", "transport"},
	"demo/goroot":       {},
	"bench":             {"diff", "internal/wire", "merkle", "replica", "replica/store", "replica/store/badgerstore", "stream", "transport"},
	"cmd/sdiff": {"demo", "internal/control", "internal/version", "merkle", "replica", "replica/store",
		"replica/store/badgerstore", "stream", "transport"},
}

// testOnly lists packages that only test files and other packages of the list
// may import.
var testOnly = []string{"internal/faultnet", "replica/store/storetest", "transport/transporttest"}

// heavy maps third-party modules to the only packages that may import them.
var heavy = map[string][]string{
	"github.com/dgraph-io/badger":    {"replica/store/badgerstore", "bench", "demo/goroot"},
	"github.com/vmihailenco/msgpack": {"internal/wire", "bench"},
	"github.com/spf13/cobra":         {"cmd/sdiff"},
	"github.com/spf13/pflag":         {"cmd/sdiff"},
}

// pure lists the packages that do no I/O, and impure what they may not import.
var (
	pure   = []string{"diff", "internal/wire", "merkle"}
	impure = []string{"context", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "time"}
)

// barred lists what no package imports outside of tests: there is a better one.
var barred = []string{"log", "math/rand", "github.com/pkg/errors"}

func TestImports(t *testing.T) {
	// Parsing the files, rather than asking go list, makes them inputs of the
	// test: go test re-runs it when any of them changes.
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || isModule(path)):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		checkFile(t, filepath.ToSlash(rel), f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// isModule reports whether a directory is a module of its own, such as
// bench/peers: what that imports is no dependency of this one.
func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

func checkFile(t *testing.T, pkg string, f *ast.File) {
	t.Helper()
	allowed, ok := imports[pkg]
	if !ok {
		t.Errorf("package %s is missing from the import table", pkg)
	}
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if dep, ok := strings.CutPrefix(imp, module+"/"); ok && !slices.Contains(allowed, dep) {
			t.Errorf("%s imports %s, which the table does not allow", pkg, dep)
		}
		if slices.Contains(pure, pkg) && slices.Contains(impure, imp) {
			t.Errorf("%s imports %s; it does no I/O and has no clock", pkg, imp)
		}
		if slices.Contains(barred, imp) {
			t.Errorf("%s imports %s, which nothing here does", pkg, imp)
		}
		for prefix, homes := range heavy {
			if strings.HasPrefix(imp, prefix) && !slices.Contains(homes, pkg) {
				t.Errorf("%s imports %s; only %v may", pkg, imp, homes)
			}
		}
	}
}

// TestTable checks the table itself: it has no cycle, pure packages import
// pure ones only, and nothing that ships imports a package made for tests.
func TestTable(t *testing.T) {
	done := map[string]bool{}
	var visit func(pkg string, path []string)
	visit = func(pkg string, path []string) {
		if slices.Contains(path, pkg) {
			t.Fatalf("the table has a cycle: %v", append(path, pkg))
		}
		if done[pkg] {
			return
		}
		for _, dep := range imports[pkg] {
			if _, ok := imports[dep]; !ok {
				t.Errorf("%s may import %s, which has no row", pkg, dep)
			}
			if slices.Contains(pure, pkg) && !slices.Contains(pure, dep) {
				t.Errorf("%s may import %s, which is not pure", pkg, dep)
			}
			if slices.Contains(testOnly, dep) && !slices.Contains(testOnly, pkg) {
				t.Errorf("%s may import %s, which is for tests", pkg, dep)
			}
			visit(dep, append(path, pkg))
		}
		done[pkg] = true
	}
	for pkg := range imports {
		visit(pkg, nil)
	}
}
