//go:build chaos

package chaos

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
)

// A cacheDisk is a disk with a volatile cache, as real ones have: a write is
// safe only once a flush after it has returned. It is a file that this process
// serves through FUSE, for a loop device to be made of.
type cacheDisk struct {
	path string // of the file
	size int64
	fd   int // of /dev/fuse
	done chan struct{}

	mu     sync.Mutex
	stable map[int64][]byte   // blocks that are safe, by number; they are never changed
	cached map[int64][][]byte // what was written to blocks since the last flush, in order
	failed string             // what the kernel asked for and did not get
}

// blockBytes is what the disk writes at once, and sectorBytes what it never
// tears.
const (
	blockBytes  = 4096
	sectorBytes = 512
)

// newCacheDisk serves a disk of so many bytes until the test ends or unmount is
// called. It returns nil where there is no FUSE.
func newCacheDisk(t testing.TB, in string, size int64, blocks map[int64][]byte) *cacheDisk {
	t.Helper()
	f, err := os.CreateTemp(in, "disk-")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	c := &cacheDisk{path: f.Name(), size: size, done: make(chan struct{}), stable: blocks, cached: make(map[int64][][]byte)}
	if c.fd, err = syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0); err != nil {
		return nil
	}
	options := fmt.Sprintf("fd=%d,rootmode=100600,user_id=0,group_id=0", c.fd)
	if err := syscall.Mount("sdiff-chaos", c.path, "fuse", syscall.MS_NOSUID|syscall.MS_NODEV, options); err != nil {
		syscall.Close(c.fd)
		return nil
	}
	go c.serve()
	t.Cleanup(func() { c.unmount(t) })
	return c
}

// unmount ends the disk. Nothing may use it.
func (c *cacheDisk) unmount(t testing.TB) {
	if c.fd < 0 {
		return
	}
	if err := syscall.Unmount(c.path, 0); err != nil {
		t.Errorf("unmount the disk: %v", err)
		_ = syscall.Unmount(c.path, syscall.MNT_DETACH|syscall.MNT_FORCE)
	}
	<-c.done
	syscall.Close(c.fd)
	c.fd = -1
	_ = os.Remove(c.path)
	if c.failed != "" {
		t.Errorf("the disk: %s", c.failed)
	}
}

// cutPower returns what is on the disk if the power is cut now: what is safe,
// and of what is in the cache whatever chance has it. It reports how many
// blocks it lost.
func (c *cacheDisk) cutPower(r *rand.Rand) (blocks map[int64][]byte, lost int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	blocks = maps.Clone(c.stable)
	keep := []float64{0, 0.5, 0.9}[r.IntN(3)]
	tear := r.IntN(4) == 0
	for n, versions := range c.cached {
		newest := versions[len(versions)-1]
		if r.Float64() < keep {
			blocks[n] = newest
			continue
		}
		lost++
		before := blocks[n] // or one of those between
		if i := r.IntN(len(versions)); i > 0 {
			before = versions[i-1]
		}
		if tear {
			before = torn(r, before, newest)
		}
		blocks[n] = before
	}
	return blocks, lost
}

// torn returns a block of which some sectors are old and some new.
func torn(r *rand.Rand, before, after []byte) []byte {
	b := make([]byte, blockBytes)
	copy(b, before)
	for at := 0; at < blockBytes; at += sectorBytes {
		if r.IntN(2) == 0 {
			copy(b[at:at+sectorBytes], after[at:])
		}
	}
	return b
}

// read fills b with what the disk holds at an offset.
func (c *cacheDisk) read(b []byte, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(b) > 0 {
		n := at / blockBytes
		block := c.stable[n]
		if v := c.cached[n]; len(v) > 0 {
			block = v[len(v)-1]
		}
		off := int(at % blockBytes)
		k := min(len(b), blockBytes-off)
		if block == nil {
			clear(b[:k])
		} else {
			copy(b[:k], block[off:])
		}
		b, at = b[k:], at+int64(k)
	}
}

// write writes b at an offset, into the cache.
func (c *cacheDisk) write(b []byte, at int64) {
	for len(b) > 0 {
		n, off := at/blockBytes, int(at%blockBytes)
		k := min(len(b), blockBytes-off)
		block := make([]byte, blockBytes)
		if k < blockBytes {
			c.read(block, n*blockBytes)
		}
		copy(block[off:], b[:k])
		c.mu.Lock()
		c.cached[n] = append(c.cached[n], block)
		c.mu.Unlock()
		b, at = b[k:], at+int64(k)
	}
}

// flush makes everything safe that is in the cache.
func (c *cacheDisk) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, versions := range c.cached {
		c.stable[n] = versions[len(versions)-1]
	}
	clear(c.cached)
}

// The messages of FUSE that a single file meets, by number: <linux/fuse.h>.
const (
	fuseForget   = 2
	fuseGetattr  = 3
	fuseSetattr  = 4
	fuseOpen     = 14
	fuseRead     = 15
	fuseWrite    = 16
	fuseStatfs   = 17
	fuseRelease  = 18
	fuseFsync    = 20
	fuseFlush    = 25
	fuseInit     = 26
	fuseForgets  = 42
	fuseInHeader = 40 // bytes
	fuseMaxWrite = 1 << 20
)

// serve answers the kernel until the disk is unmounted.
func (c *cacheDisk) serve() {
	defer close(c.done)
	in := make([]byte, fuseMaxWrite+4096)
	for {
		n, err := syscall.Read(c.fd, in)
		if err == syscall.EINTR || err == syscall.EAGAIN || err == syscall.ENOENT {
			continue
		}
		if err != nil || n < fuseInHeader {
			return // unmounted
		}
		op := binary.NativeEndian.Uint32(in[4:])
		if op == fuseForget || op == fuseForgets {
			continue // has no answer
		}
		body, errno := c.answer(op, in[fuseInHeader:n])
		out := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
		out = binary.NativeEndian.AppendUint32(out, uint32(-int32(errno)))
		out = append(out, in[8:16]...) // the request's number
		if _, err := syscall.Write(c.fd, append(out, body...)); err != nil && err != syscall.ENOENT {
			c.mu.Lock()
			c.failed = fmt.Sprintf("answer message %d: %v", op, err)
			c.mu.Unlock()
		}
	}
}

// answer handles a message.
func (c *cacheDisk) answer(op uint32, in []byte) (out []byte, errno syscall.Errno) {
	ne := binary.NativeEndian
	switch op {
	case fuseInit:
		// Version 7.31; large writes of up to 256 pages; no cache of the
		// kernel's for writes, for here is the only one that counts.
		out = make([]byte, 64)
		ne.PutUint32(out, 7)
		ne.PutUint32(out[4:], 31)
		ne.PutUint32(out[8:], 128<<10)
		ne.PutUint32(out[12:], 1<<5|1<<22)
		ne.PutUint16(out[16:], 64)
		ne.PutUint16(out[18:], 48)
		ne.PutUint32(out[20:], fuseMaxWrite)
		ne.PutUint32(out[24:], 1)
		ne.PutUint16(out[28:], fuseMaxWrite/4096)
		return out, 0
	case fuseGetattr, fuseSetattr:
		out = make([]byte, 104)
		ne.PutUint64(out, 3600)
		attr := out[16:]
		ne.PutUint64(attr, 1)
		ne.PutUint64(attr[8:], uint64(c.size))
		ne.PutUint64(attr[16:], uint64(c.size/512))
		ne.PutUint32(attr[60:], uint32(syscall.S_IFREG|0o600))
		ne.PutUint32(attr[64:], 1)
		ne.PutUint32(attr[80:], blockBytes)
		return out, 0
	case fuseOpen:
		return make([]byte, 16), 0
	case fuseRead:
		at, size := int64(ne.Uint64(in[8:])), int64(ne.Uint32(in[16:]))
		out = make([]byte, max(0, min(size, c.size-at)))
		c.read(out, at)
		return out, 0
	case fuseWrite:
		at, size := int64(ne.Uint64(in[8:])), ne.Uint32(in[16:])
		c.write(in[40:40+size], at)
		out = make([]byte, 8)
		ne.PutUint32(out, size)
		return out, 0
	case fuseFsync:
		c.flush()
		return nil, 0
	case fuseFlush, fuseRelease:
		return nil, 0
	case fuseStatfs:
		out = make([]byte, 80)
		ne.PutUint32(out[40:], blockBytes)
		ne.PutUint32(out[44:], 255)
		return out, 0
	}
	return nil, syscall.ENOSYS
}
