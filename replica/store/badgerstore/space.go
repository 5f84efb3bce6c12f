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
}

// Asking the file system costs a microsecond or two, so it is asked only after
// so much was written, or after so long.
const (
	spaceBytes = 8 << 20
	spaceAge   = time.Second
)

func newSpace(dir string, reserve int64) space {
	if reserve == 0 {
		reserve = DefaultReserve
	}
	if reserve < 0 {
		dir = ""
	}
	return space{dir: dir, reserve: reserve}
}

// check returns an error that wraps store.ErrNoSpace if so many bytes should
// not be written now.
func (s *space) check(n int64) error {
	if s.dir == "" {
		return nil
	}
	s.written += n
	now := time.Now()
	if !s.full && s.written < spaceBytes && now.Sub(s.at) < spaceAge {
		return nil
	}
	s.at, s.written = now, n
	free := freeSpace(s.dir)
	if free < 0 {
		return nil // cannot be told here
	}
	need := s.reserve
	if s.full {
		need += s.reserve / 4 // or it would flap
	}
	if s.full = free-n < need; s.full {
		return fmt.Errorf("%w: %d bytes are free, the reserve is %d", store.ErrNoSpace, free, need)
	}
	return nil
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
