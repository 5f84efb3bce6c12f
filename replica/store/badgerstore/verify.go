package badgerstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/proto"

	"github.com/sdiff/sdiff/replica/store"
)

// A table file of Badger is blocks, then an index, its length (u32, as all
// below), the index's checksum, and that one's length. A block, once unpacked,
// is entries, their offsets, their number, a checksum of all before it, and
// that one's length.

// minTable is less than any table has.
const minTable = 32

// maxChecksum is more bytes than a checksum takes.
const maxChecksum = 64

// verifyTables checks the checksums of all tables in a directory, as many at a
// time as there are processors. It returns the first error, which wraps
// store.ErrCorrupt unless reading itself failed.
func verifyTables(dir string, tables map[uint64]badger.TableManifest, skipBlocks bool) error {
	type job struct {
		name string
		tm   badger.TableManifest
	}
	jobs := make(chan job, len(tables))
	for id, tm := range tables {
		jobs <- job{table.IDToFilename(id), tm}
	}
	close(jobs)
	errs := make([]error, min(runtime.GOMAXPROCS(0), 4))
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for j := range jobs {
				if err := verifyTable(filepath.Join(dir, j.name), j.tm.Compression, skipBlocks); err != nil {
					errs[i] = fmt.Errorf("table %s: %w", j.name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// verifyTable checks one table. With skipBlocks it reads index and last block
// only, which is what Badger reads when it opens the table.
func verifyTable(path string, c options.CompressionType, skipBlocks bool) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// What is checked below is checked before it is used, but the code that
	// uses it is not ours.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", store.ErrCorrupt, r)
		}
	}()
	r := &window{f: f, size: info.Size()}
	index, end, err := readIndex(r)
	if err != nil {
		return err
	}
	n := index.OffsetsLength()
	if n == 0 {
		return fmt.Errorf("%w: it has no blocks", store.ErrCorrupt)
	}
	i := 0
	if skipBlocks {
		i = n - 1
	}
	for ; i < n; i++ {
		var at fb.BlockOffset
		index.Offsets(&at, i)
		off, size := int64(at.Offset()), int64(at.Len())
		if off+size > end {
			return fmt.Errorf("%w: block %d ends after the blocks do", store.ErrCorrupt, i)
		}
		b, err := r.read(off, size)
		if err != nil {
			return err
		}
		if err := verifyBlock(b, c); err != nil {
			return fmt.Errorf("%w: block %d: %w", store.ErrCorrupt, i, err)
		}
	}
	return nil
}

// readIndex reads and checks the index of a table. It returns it, and where the
// blocks end.
func readIndex(r *window) (index *fb.TableIndex, end int64, err error) {
	at := r.size
	// before returns the n bytes before those read last.
	before := func(n int64) ([]byte, error) {
		if n > at {
			return nil, fmt.Errorf("%w: its footer does not fit it", store.ErrCorrupt)
		}
		at -= n
		b, err := r.read(at, n)
		return append([]byte(nil), b...), err
	}
	number := func() (int64, error) {
		b, err := before(4)
		if err != nil {
			return 0, err
		}
		return int64(binary.BigEndian.Uint32(b)), nil
	}
	n, err := number()
	if err != nil {
		return nil, 0, err
	}
	if n == 0 || n > maxChecksum {
		return nil, 0, fmt.Errorf("%w: its footer is not one", store.ErrCorrupt)
	}
	sum, err := before(n)
	if err != nil {
		return nil, 0, err
	}
	if n, err = number(); err != nil {
		return nil, 0, err
	}
	data, err := before(n)
	if err != nil {
		return nil, 0, err
	}
	if err := verifySum(data, sum); err != nil {
		return nil, 0, fmt.Errorf("%w: index: %w", store.ErrCorrupt, err)
	}
	if len(data) < 8 {
		return nil, 0, fmt.Errorf("%w: its index has %d bytes", store.ErrCorrupt, len(data))
	}
	return fb.GetRootAsTableIndex(data, 0), at, nil
}

// errBlock is returned for a block whose own lengths do not fit it.
var errBlock = errors.New("it contradicts itself")

// verifyBlock checks one block as it is in the file.
func verifyBlock(b []byte, c options.CompressionType) error {
	var err error
	switch c {
	case options.None:
	case options.Snappy:
		b, err = snappy.Decode(nil, b)
	case options.ZSTD:
		b, err = y.ZSTDDecompress(nil, b)
	default:
		return fmt.Errorf("compression %d is not known", c)
	}
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if len(b) < 8 {
		return errBlock
	}
	body, n := b[:len(b)-4], int(binary.BigEndian.Uint32(b[len(b)-4:]))
	if n == 0 || n > maxChecksum || n+4 > len(body) {
		return errBlock
	}
	body, sum := body[:len(body)-n], body[len(body)-n:]
	// Badger takes the number of entries on trust.
	entries := int64(binary.BigEndian.Uint32(body[len(body)-4:]))
	if entries == 0 || entries*4 > int64(len(body)-4) {
		return errBlock
	}
	return verifySum(body, sum)
}

func verifySum(data, sum []byte) error {
	var want pb.Checksum
	if err := proto.Unmarshal(sum, &want); err != nil {
		return err
	}
	if want.Algo != pb.Checksum_CRC32C && want.Algo != pb.Checksum_XXHash64 {
		return fmt.Errorf("checksum algorithm %d is not known", want.Algo)
	}
	if y.CalculateChecksum(data, want.Algo) != want.Sum {
		return errors.New("the checksum does not match")
	}
	return nil
}

// A window reads a file in large pieces, in order or not.
type window struct {
	f    *os.File
	size int64
	buf  []byte // what is at off
	off  int64
}

const windowBytes = 1 << 20

// read returns n bytes at an offset, valid until the next read.
func (w *window) read(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off+n > w.size {
		return nil, fmt.Errorf("%w: it is cut short", store.ErrCorrupt)
	}
	if off < w.off || off+n > w.off+int64(len(w.buf)) {
		want := min(max(n, windowBytes), w.size-off)
		if int64(cap(w.buf)) < want {
			w.buf = make([]byte, want)
		}
		w.buf = w.buf[:want]
		w.off = off
		if _, err := w.f.ReadAt(w.buf, off); err != nil {
			w.buf = w.buf[:0]
			if errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("%w: it is cut short", store.ErrCorrupt)
			}
			return nil, err
		}
	}
	return w.buf[off-w.off:][:n], nil
}
