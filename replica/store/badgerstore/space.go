package badgerstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sdiff/sdiff/replica/store"
)

// A space guards the reserve of free disk space. It is the writing goroutine's.
type space struct {
	dir     string // empty: nothing to guard
	reserve int64

	full    bool // writes are refused
	at      time.Time
	written int64 // since then
	slack   int64 // how much more than needed was free then
}

// Asking the file system costs a few microseconds, so it is asked only after
// so much was written, or after so long, or where it gets tight.
const (
	spaceBytes = 8 << 20
	spaceAge   = time.Second
)

func newSpace(dir string, reserve int64) space {
	if reserve < 0 {
		return space{}
	}
	if reserve == 0 && dir != "" {
		_, size := diskSpace(dir)
		reserve = defaultReserve(size)
	}
	return space{dir: dir, reserve: reserve}
}

// defaultReserve returns what to keep free of a volume of so many bytes, or of
// -1 if that cannot be told.
func defaultReserve(volume int64) int64 {
	if volume < 0 {
		return DefaultReserve
	}
	return min(DefaultReserve, volume/10)
}

// check returns an error that wraps store.ErrNoSpace if so many bytes should
// not be written now.
func (s *space) check(n int64) error {
	if s.dir == "" {
		return nil
	}
	s.written += n
	now := time.Now()
	if !s.full && s.written < min(spaceBytes, s.slack/4) && now.Sub(s.at) < spaceAge {
		return nil
	}
	s.at, s.written = now, n
	free, _ := diskSpace(s.dir)
	if free < 0 {
		return nil // cannot be told here
	}
	need := max(s.reserve, memSize(s.dir)+n)
	if s.full {
		need += need / 4 // or it would flap
	}
	s.slack = free - n - need
	if s.full = s.slack < 0; s.full {
		return fmt.Errorf("%w: %d bytes are free, the reserve is %d", store.ErrNoSpace, free, need)
	}
	return nil
}

// memSize returns the bytes on disk of the logs of tables in memory. About as
// much again is needed to write the tables out, and their files are memory maps:
// where a disk is full then, the process gets a SIGBUS.
func memSize(dir string) int64 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	var n int64
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".mem" {
			continue
		}
		if info, err := e.Info(); err == nil {
			size, _ := allocated(info)
			n += size
		}
	}
	return n
}

// A sizeCache keeps the size of a directory for a few seconds.
type sizeCache struct {
	mu   sync.Mutex
	at   time.Time
	size int64
}

func (c *sizeCache) get(dir string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.at.IsZero() || now.Sub(c.at) > 2*time.Second {
		c.at, c.size = now, dirSize(dir)
	}
	return c.size
}

// dirSize returns the bytes on disk of the database's files in a directory.
// Their apparent sizes say little: Badger makes large files with holes.
func dirSize(dir string) int64 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return -1
	}
	var n int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if size, ok := allocated(info); ok {
			n += size
		} else if ext := filepath.Ext(e.Name()); ext == ".sst" || strings.HasPrefix(e.Name(), "MANIFEST") {
			n += info.Size()
		}
	}
	return n
}
