package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestCheckDir(t *testing.T) {
	tests := []struct {
		files string
		ok    bool
	}{
		{"", true},
		{"lost+found .keep control.sock", true},
		{"letter.txt", false},
		{".keep letter.txt", false},
		{"MANIFEST 000001.sst HEAD", true},
		{"000001.sst put-aside-20260101", true}, // a damaged one: the store says so
		{"HEAD-0011223344556677 follower-id letter.txt", true},
	}
	for _, test := range tests {
		dir := t.TempDir()
		for name := range strings.FieldsSeq(test.files) {
			writeFile(t, filepath.Join(dir, name), "")
		}
		if err := checkDir(dir); (err == nil) != test.ok {
			t.Errorf("a directory with %q: %v, want ok %t", test.files, err, test.ok)
		}
	}
}

func TestFollowerID(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "f")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	made, err := followerID(dir, "")
	if err != nil || !regexp.MustCompile(`^[!-~]{1,64}-[0-9a-f]{4}$`).MatchString(made) {
		t.Fatalf("followerID() = %q, %v", made, err)
	}
	// It moves with the directory, and a new one given replaces it.
	moved := dir + "2"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ given, want string }{{"", made}, {"own", "own"}, {"", "own"}} {
		if got, err := followerID(moved, step.given); err != nil || got != step.want {
			t.Errorf("followerID(%q) = %q, %v; want %q", step.given, got, err, step.want)
		}
	}
	if other := newID(dir); other == newID(moved) {
		t.Errorf("two directories have the name %s", other)
	}
}
