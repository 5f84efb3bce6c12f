package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
)

// socketName is the socket's name in the directory, and buildName that of the
// private directory in which it is made ready.
const (
	socketName = "control.sock"
	buildName  = ".ctl"
)

// maxPath is the longest path of a unix socket, without the zero byte.
func maxPath() int {
	if runtime.GOOS == "linux" || runtime.GOOS == "windows" {
		return 107
	}
	return 103
}

// socketPath returns a path of the directory's socket that is short enough,
// written from the root or from the working directory.
func socketPath(dir string) (string, error) {
	given := filepath.Join(dir, socketName)
	if len(given) <= maxPath() {
		return given, nil
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, given); err == nil && len(rel) <= maxPath() {
			return rel, nil
		}
	}
	return "", &Error{Usage, fmt.Sprintf("the path of the control socket, %s, has %d bytes; a unix socket's may have %d: choose a shorter directory, or run sdiff from near it", given, len(given), maxPath())}
}

// CheckPath returns an error if a directory's path is too long for a socket in
// it, so that this can be told before anything is opened.
func CheckPath(dir string) error {
	_, err := socketPath(dir)
	return err
}

// Listen makes the control socket of a directory, replacing one that a dead
// process left there. The caller must hold the directory: Listen would take
// the socket of a living process just as well. Closing the listener removes
// the socket.
func Listen(dir string) (net.Listener, error) {
	path, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	// Nobody may reach the socket before it has its mode, and the process's
	// umask is not ours to change: so it is made in a directory that only we
	// can enter, and moved when it is ready. Moving also replaces the old one
	// in one step. The path there is no longer than the one in its place.
	build := filepath.Join(filepath.Dir(path), buildName)
	if err := os.RemoveAll(build); err != nil {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	if err := os.Mkdir(build, 0o700); err != nil {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	defer os.RemoveAll(build)
	made := filepath.Join(build, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it would remove the path it was made at
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		l.Close()
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	// The path is resolved once and for all: the process may change its
	// working directory before it ends.
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return &socket{UnixListener: l, path: path}, nil
}

// A socket is a listener that removes its path when it is closed, once.
type socket struct {
	*net.UnixListener
	path string
	once sync.Once
}

// Close removes the socket and stops listening. The order matters: as long as
// the path exists somebody answers there.
func (s *socket) Close() error {
	s.once.Do(func() { os.Remove(s.path) })
	return s.UnixListener.Close()
}

// dialError says in words why nobody answers at the directory's socket.
func dialError(dir, path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &Error{Permission, fmt.Sprintf("not allowed to open the control socket %s", path)}
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return &Error{Unreachable, fmt.Sprintf("there is no directory %s", dir)}
		}
		return &Error{Unreachable, fmt.Sprintf("no process serves %s", dir)}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Error{Unreachable, fmt.Sprintf("no process serves %s; the last one did not end cleanly", dir)}
	}
	return &Error{Unreachable, fmt.Sprintf("no process answers at %s: %v", path, err)}
}
