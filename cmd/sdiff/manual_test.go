package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/internal/version"
	"github.com/sdiff/sdiff/replica"
)

// manual returns docs/CLI.md, and its sections on commands by their names.
func manual(t *testing.T) (text string, sections map[string]string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "CLI.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections = map[string]string{}
	for _, part := range strings.Split(string(b), "\n### ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		if i := strings.Index(body, "\n## "); i >= 0 {
			body = body[:i]
		}
		sections[name] = body
	}
	return string(b), sections
}

// flagRow returns the row of the table of flags in the manual, without what
// the flag does.
func flagRow(f *pflag.Flag) string {
	arg, _ := pflag.UnquoteUsage(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	if arg != "" {
		name += " " + strings.ReplaceAll(arg, "|", `\|`)
	}
	def := "–"
	if f.DefValue != "" && f.DefValue != "false" {
		def = "`" + f.DefValue + "`"
	}
	return fmt.Sprintf("| `%s` | `%s` | %s |", name, envName(f), def)
}

// TestManual shows that the manual has a section for every command and in it a
// row for every flag.
func TestManual(t *testing.T) {
	text, sections := manual(t)
	root := testRoot()
	for _, cmd := range root.Commands() {
		if !cmd.IsAvailableCommand() {
			continue
		}
		section, ok := sections["sdiff "+cmd.Name()]
		if !ok {
			t.Errorf("docs/CLI.md has no section %q", "### sdiff "+cmd.Name())
		}
		if use := "sdiff " + cmd.Use; !strings.Contains(section, use) {
			t.Errorf("the section on %s does not say %q", cmd.Name(), use)
		}
	}
	eachFlag(root, func(cmd *cobra.Command, f *pflag.Flag) {
		where, name := sections["sdiff "+cmd.Name()], cmd.Name()
		if root.PersistentFlags().Lookup(f.Name) != nil {
			where, name = text, "all commands"
		}
		if row := flagRow(f); !strings.Contains(where, row) {
			t.Errorf("the manual of %s has no row\n%s", name, row)
		}
	})
}

// TestManualFields shows that the manual names every field of the JSON that
// the commands print.
func TestManualFields(t *testing.T) {
	text, _ := manual(t)
	for _, v := range []any{
		replica.Status{}, replica.Report{}, verification{}, diagnosis{}, ready{}, loaded{}, control.Position{}, explanation{}, version.Info{},
	} {
		eachTag(reflect.TypeOf(v), func(typ, tag string) {
			if !strings.Contains(text, "`"+tag+"`") {
				t.Errorf("docs/CLI.md does not name the field `%s` of %s", tag, typ)
			}
		})
	}
}

// eachTag calls fn for the JSON names of a type's fields, and of those within.
func eachTag(typ reflect.Type, fn func(typ, tag string)) {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice:
		eachTag(typ.Elem(), fn)
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(typ) {
			if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != "" && tag != "-" {
				fn(typ.String(), tag)
				eachTag(f.Type, fn)
			}
		}
	}
}

// TestHelp shows that every command explains itself in lines that fit.
func TestHelp(t *testing.T) {
	for _, cmd := range testRoot().Commands() {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the short help is %q", cmd.Name(), cmd.Short)
		}
		for line := range strings.Lines(cmd.Long) {
			if len([]rune(line)) > 90 {
				t.Errorf("%s: a line of the help has %d characters: %s", cmd.Name(), len([]rune(line)), line)
			}
		}
	}
}
