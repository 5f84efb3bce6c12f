package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/sdiff/sdiff/replica/store"
)

// The children of TestChild, each of which ends in its own way. They are
// commands of the test binary, see TestMain.
var endings = map[string]func(){
	"ends":    func() { fmt.Println(`{"note":"a note"}` + "\n" + `{"end":true}`) },
	"stops":   func() { fmt.Println(`{"note":"a note"}`) },
	"panics":  func() { done := make(chan bool); go func() { panic("index out of range\nkey: secret") }(); <-done },
	"asserts": func() { log.SetFlags(0); log.Fatal("Checksum mismatch\nvalue: secret") },
	"says":    func() { fmt.Printf(`{"note":%q}`+"\n"+`{"end":true}`, strings.Join(os.Args[1:], " ")) },
	"killed":  func() { p, _ := os.FindProcess(os.Getpid()); _ = p.Kill(); select {} },
	"bus": func() {
		fmt.Fprintln(os.Stderr, "unexpected fault address 0x1\nfatal error: fault\n[signal SIGBUS]")
		os.Exit(2)
	},
	"terrible": func() { fmt.Fprintln(os.Stderr, strings.Repeat("x", 1<<20)); os.Exit(1) },
}

// TestChild shows what is made of the end of a child: damage only if something
// within it ended it, and of what it says never more than a line.
func TestChild(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the children are found in /proc")
	}
	defer func(was string) { programName = was }(programName)
	for name, want := range map[string]string{
		"ends":     "",
		"stops":    "it said nothing",
		"panics":   "panic: index out of range",
		"asserts":  "Checksum mismatch",
		"killed":   "ended from outside",
		"bus":      "fatal error: fault",
		"terrible": strings.Repeat("x", 200),
	} {
		programName = name
		notes := 0
		err := child(t.Context(), nil, nil, func(l childLine) {
			if l.Note == "a note" {
				notes++
			}
		})
		died := errors.Is(err, errDied) && errors.Is(err, store.ErrCorrupt)
		switch {
		case (err == nil) != (want == ""), err != nil && !strings.HasSuffix(strings.TrimSuffix(err.Error(), ": signal: killed"), want):
			t.Errorf("%s: %v, want %q", name, err, want)
		case err != nil && died != (name != "killed"):
			t.Errorf("%s: %v is damage: %v", name, err, died)
		case err != nil && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: %v says too much", name, err)
		case (name == "ends" || name == "stops") != (notes == 1):
			t.Errorf("%s: %d notes", name, notes)
		}
	}
	programName = "killed"
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&signalError{os.Interrupt})
	err := child(ctx, nil, nil, func(childLine) {})
	if _, ok := errors.AsType[*signalError](err); !ok || errors.Is(err, errDied) {
		t.Errorf("after a signal: %v", err)
	}
}

// TestChildHasTheSameFlags shows that a store is tried as it will be opened: the
// child opened it with the default budget of memory.
func TestChildHasTheSameFlags(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the children are found in /proc")
	}
	defer func(was string) { programName = was }(programName)
	programName = "says"
	first := firstTry(t.Context(), &storeFlags{prefix: "p/", sync: "never", reserve: 5 << 20, memory: 200 << 20})
	notes, err := first("dir", nil)
	want := "try-open --data dir --prefix p/ --sync never --reserve 5MiB --memory 200MiB --locked=false"
	if err != nil || len(notes) != 1 || notes[0] != want {
		t.Errorf("the child was called with %q, %v, want %q", notes, err, want)
	}
	// These flags it takes, and they reach the store.
	var a app
	cmd := a.tryOpenCommand()
	if err := cmd.ParseFlags(strings.Fields(want)[1:]); err != nil {
		t.Error(err)
	}
}
