package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sdiff/sdiff/replica"
)

// openTerminal returns both ends of a new terminal: what is written to the
// second is read from the first.
func openTerminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return screen, tty
}

// onScreen runs a command with its output on a terminal and returns what is
// to be seen.
func onScreen(t *testing.T, env []string, args ...string) string {
	t.Helper()
	screen, tty := openTerminal(t)
	run(t.Context(), args, strings.NewReader(""), tty, tty, env)
	if _, err := tty.WriteString("<end>"); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for !strings.HasSuffix(string(got), "<end>") {
		b := make([]byte, 4096)
		n, err := screen.Read(b)
		if err != nil {
			t.Fatalf("read the terminal: %v after %q", err, got)
		}
		got = append(got, b[:n]...)
	}
	return strings.ReplaceAll(strings.TrimSuffix(string(got), "<end>"), "\r\n", "\n")
}

// evil speaks to terminals.
const evil = "\x1b]0;owned\a\x1b[31m"

// TestTerminal shows what changes when the output is a terminal: no control
// byte of a key or value gets there, a value ends with a line, and there are
// colours unless NO_COLOR is set.
func TestTerminal(t *testing.T) {
	m := t.TempDir()
	start(t, "serve", "--data", m, "--listen", "127.0.0.1:0")
	if r := call(t.Context(), "one\n"+evil, nil, "put", "--data", m, evil, "-"); r.exit != 0 {
		t.Fatal(r.stderr)
	}
	tests := []struct{ args, want string }{
		{"get", "one\n\\x1b]0;owned\\a\\x1b[31m\n"},
		{"list --values", "\\x1b]0;owned\\a\\x1b[31m\tone\\n\\x1b]0;owned\\a\\x1b[31m\n"},
		{"list --values -o json", `{"key":"\u001b]0;owned\u0007\u001b[31m","value":"one\n\u001b]0;owned\u0007\u001b[31m"}` + "\n"},
	}
	for _, test := range tests {
		args := append(strings.Fields(test.args), "--data", m)
		if test.args == "get" {
			args = append(args, evil)
		}
		if got := onScreen(t, nil, args...); got != test.want {
			t.Errorf("sdiff %s on a terminal: %q, want %q", test.args, got, test.want)
		}
	}
	if r := call(t.Context(), "", nil, "get", "--data", m, evil); r.stdout != "one\n"+evil {
		t.Errorf("get into a file: %q", r.stdout)
	}

	// Errors too, whose words may come from outside.
	nobody := "no\x1b[2Jbody"
	plain := "sdiff: error: there is no directory no\\x1b[2Jbody\nsdiff: hint: "
	if got := onScreen(t, []string{"NO_COLOR=1", "TERM=xterm"}, "get", "--data", nobody, "k"); !strings.HasPrefix(got, plain) {
		t.Errorf("an error with NO_COLOR: %q", got)
	}
	if got := onScreen(t, []string{"TERM=dumb"}, "get", "--data", nobody, "k"); !strings.HasPrefix(got, plain) {
		t.Errorf("an error on a dumb terminal: %q", got)
	}
	if got := onScreen(t, []string{"TERM=xterm"}, "get", "--data", nobody, "k"); !strings.HasPrefix(got, "\x1b[31msdiff: error:\x1b[0m there is no") {
		t.Errorf("an error in colours: %q", got)
	}
}

// TestStatusColours shows that being different is red, where colours are.
func TestStatusColours(t *testing.T) {
	f := &fake{status: replica.Status{Role: "follower", InSync: new(bool), Master: "1111111111111111:1"}}
	dir := serveFake(t, f, true)
	if got := onScreen(t, nil, "status", "--data", dir); !strings.Contains(got, ", \x1b[31mthe master's is 1111111111111111:1\x1b[0m\n") {
		t.Errorf("in colours: %q", got)
	}
	if got := onScreen(t, []string{"NO_COLOR=1"}, "status", "--data", dir); strings.Contains(got, "\x1b") {
		t.Errorf("with NO_COLOR: %q", got)
	}
	if got := onScreen(t, nil, "status", "--data", dir, "-o", "json"); strings.Contains(got, "\x1b") {
		t.Errorf("with -o json: %q", got)
	}
}
