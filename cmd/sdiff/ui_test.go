package main

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/replica"
)

// codes returns all codes that package control declares, and those of peers.
func codes(t *testing.T) []control.Code {
	t.Helper()
	path := filepath.Join("..", "..", "internal", "control", "errors.go")
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []control.Code
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || spec.Type == nil {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Code" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, control.Code(text))
		}
		return true
	})
	if len(all) < 25 {
		t.Fatalf("only %d codes found in %s: %v", len(all), path, all)
	}
	for c := range replica.CodeLimit + 1 {
		all = append(all, control.Code("refused_"+c.String()))
	}
	return all
}

// TestTroubles shows that every code has an exit code and that the manual
// lists it with the same one.
func TestTroubles(t *testing.T) {
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "CLI.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[control.Code]bool{control.Interrupted: true}
	for _, c := range codes(t) {
		trouble, ok := troubles[c]
		if !ok && c != control.Interrupted {
			t.Errorf("code %s has no exit code", c)
			continue
		}
		seen[c] = true
		exit := strconv.Itoa(trouble.exit)
		if c == control.Interrupted {
			exit = "130, 143"
		} else if trouble.exit == 0 {
			t.Errorf("code %s exits 0", c)
		}
		if row := fmt.Sprintf("| `%s` | %s |", c, exit); !strings.Contains(string(manual), row) {
			t.Errorf("docs/CLI.md has no row %q", row)
		}
	}
	for c := range troubles {
		if !seen[c] {
			t.Errorf("code %s does not exist any more", c)
		}
	}
}

// TestExitCodes holds the exit codes against those that every command shares.
func TestExitCodes(t *testing.T) {
	tests := []struct {
		err  error
		code control.Code
		exit int
	}{
		{&control.Error{Code: control.NotFound, Message: "m"}, control.NotFound, 3},
		{&control.Error{Code: control.Unreachable, Message: "m"}, control.Unreachable, 4},
		{&control.Error{Code: control.Permission, Message: "m"}, control.Permission, 5},
		{&failure{code: control.Timeout, msg: "m"}, control.Timeout, 6},
		{&control.Error{Code: control.Partial, Message: "m"}, control.Partial, 7},
		{fmt.Errorf("run: %w", replica.ErrDamaged), control.Damaged, 8},
		{&replica.PeerError{Code: replica.CodeDuplicate, Reason: "m"}, "refused_duplicate", 2},
		{&replica.IdentityError{What: "role"}, control.WrongRole, 2},
		{&replica.LimitError{What: "value"}, control.TooLarge, 2},
		{&signalError{os.Interrupt}, control.Interrupted, 130},
		{fmt.Errorf("load: %w", &signalError{syscall.SIGTERM}), control.Interrupted, 143},
		{context.Canceled, control.Interrupted, 130},
		{&control.Error{Code: "of_a_newer_process", Message: "m"}, "of_a_newer_process", 4},
		{fmt.Errorf("anything"), control.Internal, 4},
	}
	a := &app{data: "DATA"}
	for _, test := range tests {
		e := a.explain(test.err)
		if e.Code != test.code || e.exit != test.exit {
			t.Errorf("explain(%v) = %s, exit %d; want %s, exit %d", test.err, e.Code, e.exit, test.code, test.exit)
		}
		if strings.Contains(e.Hint, "{data}") {
			t.Errorf("explain(%v) has the hint %q", test.err, e.Hint)
		}
	}
	for lost, flag := range map[bool]string{true: "--accept-data-loss", false: "--accept-store"} {
		e := a.explain(fmt.Errorf("run: %w", &replica.DamageError{Found: "f", Lost: lost}))
		if e.exit != 8 || !strings.HasSuffix(e.Hint, flag) || !strings.Contains(e.Hint, "restore --data DATA") {
			t.Errorf("damage, lost %t: exit %d, hint %q", lost, e.exit, e.Hint)
		}
	}
	if e := a.explain(&control.Error{Code: control.Unreachable}); !strings.Contains(e.Hint, "serve --data DATA") {
		t.Errorf("the hint does not name the directory: %q", e.Hint)
	}
}

func TestReportExit(t *testing.T) {
	tests := []struct {
		report replica.Report
		want   error
	}{
		{replica.Report{Outcome: replica.Same}, nil},
		{replica.Report{Outcome: replica.Repaired}, nil},
		{replica.Report{Outcome: replica.Repaired, Unsendable: 1}, outcome(7)},
		{replica.Report{Outcome: replica.Different}, outcome(1)},
		{replica.Report{Outcome: replica.Unknown}, outcome(4)},
		{replica.Report{}, outcome(4)},
		{replica.Report{Outcome: "of a newer process"}, outcome(4)},
	}
	for _, test := range tests {
		if got := reportExit(test.report); got != test.want {
			t.Errorf("reportExit(%+v) = %v, want %v", test.report, got, test.want)
		}
	}
}
