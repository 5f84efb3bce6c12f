package merkle

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// pad is how many bytes of capacity a slab keeps behind its last byte, so that
// eight bytes can be loaded from where any suffix starts.
const pad = 8

// packed is a strictly ascending list of byte strings without a pointer per
// string: what all begin with is stored once, the rest of each one after
// another. A leaf keeps its items so, with the item's hash before each key; an
// inner node its separators, without.
//
// Hash and key side by side make one cache miss of what would be two.
//
// Invariants, which check verifies:
//
//	plen <= len(slab), cap(slab) >= len(slab)+pad
//	width 0: every suffix has stride bytes
//	width 2, 4: ends holds n little-endian numbers of that many bytes, the
//	ends of the suffixes counted from plen; the last is len(slab)-plen
//
// The prefix need not be the longest possible: removing strings does not
// lengthen it, packing anew does. A list of one string is all prefix.
type packed struct {
	slab   []byte // the common prefix, then each one's hash, if any, and suffix
	n      int32
	plen   int32
	stride int32
	width  int8
	hashed int8   // 8 with hashes, 0 without
	ends   []byte // empty while width is 0
}

const hashSize = 8

// packOne returns the list of one string and its hash.
func packOne(key []byte, hash uint64) packed {
	p := packed{hashed: hashSize}
	p.insert(0, key, hash)
	return p
}

func (p *packed) len() int       { return int(p.n) }
func (p *packed) prefix() []byte { return p.slab[:p.plen] }

// size returns the bytes all suffixes take together.
func (p *packed) size() int { return len(p.slab) - int(p.plen) - int(p.n)*int(p.hashed) }

// end returns where suffix i ends, counted from plen.
func (p *packed) end(i int) int {
	switch p.width {
	case 0:
		return (i + 1) * int(p.stride+int32(p.hashed))
	case 2:
		return int(binary.LittleEndian.Uint16(p.ends[2*i:]))
	default:
		return int(binary.LittleEndian.Uint32(p.ends[4*i:]))
	}
}

// start returns where hash and suffix i start, counted from plen; i may be n.
func (p *packed) start(i int) int {
	if i == 0 {
		return 0
	}
	return p.end(i - 1)
}

// suffix returns string i without the prefix, as part of the slab.
func (p *packed) suffix(i int) []byte {
	s := p.slab[p.plen:]
	return s[p.start(i)+int(p.hashed) : p.end(i)]
}

// hash returns the hash of string i.
func (p *packed) hash(i int) uint64 {
	return binary.LittleEndian.Uint64(p.slab[int(p.plen)+p.start(i):])
}

func (p *packed) setHash(i int, hash uint64) {
	binary.LittleEndian.PutUint64(p.slab[int(p.plen)+p.start(i):], hash)
}

// sumTo returns the sum of the hashes before number i.
func (p *packed) sumTo(i int) uint64 {
	var sum uint64
	if p.width != 0 {
		for j := range i {
			sum += p.hash(j)
		}
		return sum
	}
	step := int(p.stride) + hashSize
	for s := p.slab[p.plen:]; i > 0; i-- {
		sum += binary.LittleEndian.Uint64(s)
		s = s[step:]
	}
	return sum
}

// appendKey appends string i to dst.
func (p *packed) appendKey(dst []byte, i int) []byte {
	return append(append(dst, p.prefix()...), p.suffix(i)...)
}

// parts returns string i as prefix and suffix.
func (p *packed) parts(i int) parts { return parts{p.prefix(), p.suffix(i)} }

// search returns the index of the first string that is not below key, and
// whether it is key.
func (p *packed) search(key []byte) (int, bool) {
	if p.n == 0 {
		return 0, false
	}
	pre := p.slab[:p.plen]
	if len(key) < len(pre) || string(key[:len(pre)]) != string(pre) {
		if bytes.Compare(key, pre) < 0 {
			return 0, false
		}
		return int(p.n), false
	}
	if p.width == 0 {
		return p.searchUniform(key[len(pre):])
	}
	return p.searchEnds(key[len(pre):])
}

// searchUniform is search among suffixes of one length. It compares their
// first eight bytes as numbers and the rest only where those are equal.
func (p *packed) searchUniform(rest []byte) (int, bool) {
	stride := int(p.stride)
	step := stride + int(p.hashed)
	buf := p.slab[int(p.plen)+int(p.hashed) : cap(p.slab)]
	want := head(rest)
	mask := headMask(stride)
	lo, hi := 0, int(p.n)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		off := mid * step
		h := binary.BigEndian.Uint64(buf[off:]) & mask
		if h == want {
			c := bytes.Compare(buf[off:off+stride], rest)
			if c == 0 {
				return mid, true
			}
			if c < 0 {
				lo = mid + 1
			} else {
				hi = mid
			}
			continue
		}
		if h < want {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, false
}

// searchEnds is search among suffixes of different lengths.
func (p *packed) searchEnds(rest []byte) (int, bool) {
	buf := p.slab[p.plen:cap(p.slab)]
	want := head(rest)
	lo, hi := 0, int(p.n)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		from, to := p.start(mid)+int(p.hashed), p.end(mid)
		h := binary.BigEndian.Uint64(buf[from:]) & headMask(to-from)
		if h == want {
			c := bytes.Compare(buf[from:to], rest)
			if c == 0 {
				return mid, true
			}
			if c < 0 {
				lo = mid + 1
			} else {
				hi = mid
			}
			continue
		}
		if h < want {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, false
}

// head returns the first eight bytes of b as a big-endian number, zeros
// standing for what b lacks: it orders like b as far as it goes.
func head(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	var h uint64
	for i, c := range b {
		h |= uint64(c) << (56 - 8*i)
	}
	return h
}

// headMask returns the mask that keeps of eight big-endian bytes the first n.
func headMask(n int) uint64 {
	if n >= 8 {
		return ^uint64(0)
	}
	return ^(^uint64(0) >> (8 * uint(n)))
}

// sizeWith returns what size would be with key in the list too.
func (p *packed) sizeWith(key []byte) int {
	return p.sizeWithLen(len(key), lcp(p.prefix(), key))
}

// sizeWithLen is sizeWith for a key of that length whose first c bytes are
// those of the prefix.
func (p *packed) sizeWithLen(length, c int) int {
	return p.size() + int(p.n)*(int(p.plen)-c) + length - c
}

// sizeAt returns the bytes that the suffixes of strings from up to to would
// take if the prefix had plen bytes.
func (p *packed) sizeAt(from, to, plen int) int {
	return p.start(to) - p.start(from) + (to-from)*(int(p.plen)-plen-int(p.hashed))
}

// insert puts key in as string i, with its hash if the list has hashes. The
// order is the caller's business.
func (p *packed) insert(i int, key []byte, hash uint64) {
	p.insertLCP(i, key, hash, lcp(p.prefix(), key))
}

// insertLCP is insert of a key whose first c bytes are those of the prefix.
func (p *packed) insertLCP(i int, key []byte, hash uint64, c int) {
	if p.n == 0 {
		// All prefix. What memory the list has is used again: a Builder
		// fills one leaf after another.
		*p = packed{slab: p.slab[:0], ends: p.ends[:0], plen: int32(len(key)), hashed: p.hashed}
		p.slab = growBytes(p.slab, len(key), pad)
		copy(p.slab, key)
	} else if c < int(p.plen) {
		p.shorten(c)
	}
	suffix := key[p.plen:]
	more := int(p.hashed) + len(suffix)
	from := p.start(i)
	switch end := len(p.slab) - int(p.plen) + more; {
	case p.width == 0 && len(suffix) == int(p.stride):
	case end > 0xffff:
		p.setWidth(4)
	default:
		p.setWidth(2)
	}
	p.slab = growBytes(p.slab, more, pad)
	at := p.slab[int(p.plen)+from:]
	copy(at[more:], at)
	copy(at[p.hashed:], suffix)
	if p.hashed != 0 {
		binary.LittleEndian.PutUint64(at, hash)
	}
	p.n++
	if p.width == 0 {
		return
	}
	w := int(p.width)
	p.ends = growBytes(p.ends, w, 0)
	copy(p.ends[(i+1)*w:], p.ends[i*w:])
	p.setEnd(i, from+more)
	for j := i + 1; j < int(p.n); j++ {
		p.setEnd(j, p.end(j)+more)
	}
}

// remove takes string i out.
func (p *packed) remove(i int) {
	from, to := p.start(i), p.end(i)
	at := int(p.plen)
	p.slab = append(p.slab[:at+from], p.slab[at+to:]...)
	if w := int(p.width); w != 0 {
		p.ends = append(p.ends[:i*w], p.ends[(i+1)*w:]...)
		for j := i; j < int(p.n)-1; j++ {
			p.setEnd(j, p.end(j)-(to-from))
		}
		p.ends = shrink(p.ends, 0)
	}
	p.slab = shrink(p.slab, pad)
	p.n--
}

// clone returns a copy that shares no memory.
func (p *packed) clone() packed {
	if p.n == 0 { // no padding to rely on
		return packed{hashed: p.hashed}
	}
	q := *p
	q.slab = append([]byte(nil), p.slab[:len(p.slab)+pad]...)[:len(p.slab)]
	q.ends = append([]byte(nil), p.ends...)
	return q
}

// shorten cuts the prefix down to plen bytes and gives each suffix what the
// prefix loses.
func (p *packed) shorten(plen int) {
	*p = packTo(plen, 0, []run{{p, 0, p.len()}})
}

// setWidth stores ends in numbers of w bytes, if it does not yet.
func (p *packed) setWidth(w int) {
	if int(p.width) == w {
		return
	}
	q := *p
	q.width, q.ends = int8(w), growBytes(nil, p.len()*w, w)
	for i := range p.len() {
		q.setEnd(i, p.end(i))
	}
	*p = q
}

// setEnd stores where suffix i ends; it does nothing while width is 0.
func (p *packed) setEnd(i, end int) {
	switch p.width {
	case 2:
		binary.LittleEndian.PutUint16(p.ends[2*i:], uint16(end))
	case 4:
		binary.LittleEndian.PutUint32(p.ends[4*i:], uint32(end))
	}
}

// A run is the strings [from, to) of a list.
type run struct {
	p        *packed
	from, to int
}

// pack returns the list of all strings of the runs, in that order, with the
// longest possible prefix and room for so many bytes more.
func pack(room int, runs ...run) packed {
	runs = slices.DeleteFunc(runs, func(r run) bool { return r.from == r.to })
	if len(runs) == 0 {
		return packed{}
	}
	plen, _, _ := measure(runs)
	return packTo(plen, room, runs)
}

// packTo is pack with a prefix of plen bytes, which all strings must share. No
// run may be empty.
func packTo(plen, room int, runs []run) packed {
	var n, size int
	for _, r := range runs {
		n += r.to - r.from
		size += r.p.sizeAt(r.from, r.to, plen)
	}
	out := packed{n: int32(n), plen: int32(plen), hashed: runs[0].p.hashed}
	size += n * int(out.hashed)
	out.slab = withCap(nil, plen+size+pad+room)
	first := runs[0].p.parts(runs[0].from)
	out.slab = append(out.slab, first[0][:min(plen, len(first[0]))]...)
	out.slab = append(out.slab, first[1][:plen-len(out.slab)]...)
	switch length := uniform(runs); {
	case length >= 0:
		out.stride = int32(length - plen)
	case size > 0xffff:
		out.width = 4
	default:
		out.width = 2
	}
	out.ends = growBytes(nil, n*int(out.width), 0)
	at := 0
	for _, r := range runs {
		pre := r.p.prefix()
		if out.width == 0 && plen == len(pre) {
			out.slab = append(out.slab, r.p.slab[plen:][r.p.start(r.from):r.p.start(r.to)]...)
			at += r.to - r.from
			continue
		}
		for i := r.from; i < r.to; i++ {
			item := r.p.slab[r.p.plen:][r.p.start(i):r.p.end(i)]
			out.slab = append(out.slab, item[:out.hashed]...)
			suffix := item[out.hashed:]
			if plen <= len(pre) {
				out.slab = append(append(out.slab, pre[plen:]...), suffix...)
			} else {
				out.slab = append(out.slab, suffix[plen-len(pre):]...)
			}
			out.setEnd(at, len(out.slab)-plen)
			at++
		}
	}
	return out
}

// measure returns the longest common prefix of all strings of the runs, how
// many strings there are, and the bytes of their suffixes.
func measure(runs []run) (plen, n, size int) {
	last := runs[len(runs)-1]
	plen = lcpParts(runs[0].p.parts(runs[0].from), last.p.parts(last.to-1))
	for _, r := range runs {
		n += r.to - r.from
		size += r.p.sizeAt(r.from, r.to, plen)
	}
	return plen, n, size
}

// uniform returns the length of the strings of the runs if all have the same,
// else -1.
func uniform(runs []run) int {
	length := -1
	for _, r := range runs {
		step := r.to - r.from
		if r.p.width != 0 {
			step = 1
		}
		for i := r.from; i < r.to; i += step {
			l := int(r.p.plen) + r.p.end(i) - r.p.start(i) - int(r.p.hashed)
			if length >= 0 && l != length {
				return -1
			}
			length = l
		}
	}
	return length
}
