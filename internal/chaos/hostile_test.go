//go:build chaos

package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sdiff/sdiff/internal/wire"
	"github.com/sdiff/sdiff/transport"
)

// Types of frames, as docs/PROTOCOL.md §2 has them.
const (
	typeHello     byte = 1
	typeAck       byte = 6
	typeSyncAsk   byte = 7
	typeCompare   byte = 10
	typeChunkAck  byte = 13
	typesOfFrames byte = 18 // and one that there is not
)

// mostInbound is the largest frame that a master takes of a follower, in bytes.
const mostInbound = 256 << 10

// hostileActs is everything that a hostile peer does.
var hostileActs = append(append(beforeHello(), afterHello()...), anyFrame()...)

// beforeHello returns what strangers do who never become followers.
func beforeHello() []act {
	whole := func(h *hostile) []byte {
		body := (&greeting{version: 1, dataset: make([]byte, 16), id: h.id, hash: "xxh64", epoch: make([]byte, 16)}).body()
		return append(header(typeHello, uint32(len(body))), append(body, 0, 0, 0, 0)...)
	}
	return []act{
		{"noise", false, func(h *hostile) error { return h.raw(noise(4096)) }},
		{"http", false, func(h *hostile) error { return h.raw([]byte("GET / HTTP/1.1\r\nHost: sdiff\r\n\r\n")) }},
		{"header with a bad check", false, func(h *hostile) error {
			b := header(typeHello, 100)
			b[5]++
			return h.raw(append(b, noise(104)...))
		}},
		{"length of 4 GiB", false, func(h *hostile) error { return h.raw(append(header(typeHello, 1<<32-1), noise(1000)...)) }},
		{"hello of 4 KiB, half of it", false, func(h *hostile) error {
			return h.raw(append(header(typeHello, 4096), noise(2000)...))
		}},
		{"hello with a bad checksum", false, func(h *hostile) error { return h.raw(whole(h)) }},
		{"hello of noise", false, func(h *hostile) error { return h.send(typeHello, noise(300)) }},
		{"no hello", false, func(h *hostile) error { return h.send(typeAck, uints(1, 2)) }},
		{"empty frames", false, func(h *hostile) error { return h.send(0, nil) }},
		{"hello of version 9", false, func(h *hostile) error { return h.greet(func(g *greeting) { g.version = 9 }) }},
		{"hello of another dataset", false, func(h *hostile) error { return h.greet(func(g *greeting) { g.dataset = noise(16) }) }},
		{"hello of another hash", false, func(h *hostile) error { return h.greet(func(g *greeting) { g.hash = "md5" }) }},
		{"hello of another history", false, func(h *hostile) error {
			return h.greet(func(g *greeting) { g.epoch, g.offset, g.count = noise(16), 7, 7 })
		}},
		{"hello without an id", false, func(h *hostile) error { return h.greet(func(g *greeting) { g.id = "" }) }},
		{"hello, and gone", true, func(h *hostile) error { return h.greet(nil) }},
	}
}

// afterHello returns what peers do who are welcome.
func afterHello() []act {
	hello := func(do func(*hostile) error) func(*hostile) error {
		return func(h *hostile) error {
			if err := h.greet(nil); err != nil {
				return err
			}
			return do(h)
		}
	}
	return []act{
		{"noise after hello", false, hello(func(h *hostile) error { return h.raw(noise(1 << 16)) })},
		{"length of 4 MiB after hello", false, hello(func(h *hostile) error { return h.raw(header(typeAck, 4<<20)) })},
		{"the largest frame, of noise", false, hello(func(h *hostile) error { return h.send(typeCompare, noise(mostInbound)) })},
		{"most of the largest frame", false, hello(func(h *hostile) error {
			return h.raw(append(header(typeCompare, mostInbound), noise(mostInbound-1)...))
		})},
		{"a frame byte by byte", false, hello(func(h *hostile) error {
			for _, b := range append(header(typeCompare, mostInbound), noise(30)...) {
				if err := h.raw([]byte{b}); err != nil {
					return err
				}
				time.Sleep(50 * time.Millisecond) // it is what makes it hostile
			}
			return nil
		})},
		{"ack of what was not sent", false, hello(func(h *hostile) error { return h.send(typeAck, ackBody(1<<60)) })},
		{"10,000 acks, nothing read", true, hello(func(h *hostile) error {
			frames := make([]transport.Frame, 10_000)
			for i := range frames {
				frames[i] = transport.Frame{Type: typeAck, Body: ackBody(0)}
			}
			return h.conn.Write(frames...)
		})},
		{"1000 asks, nothing read", true, hello(func(h *hostile) error {
			for i := range uint64(1000) {
				if err := h.send(typeSyncAsk, askBody(i)); err != nil {
					return err
				}
			}
			return nil
		})},
		{"ask, then messages of noise", false, hello(func(h *hostile) error {
			if err := h.send(typeSyncAsk, askBody(1)); err != nil {
				return err
			}
			for range 10 {
				w := wire.NewWriter(nil)
				w.Array(2)
				w.Uint(1)
				w.Bytes(noise(rand.IntN(60_000)))
				if err := h.send(typeCompare, w.Out()); err != nil {
					return err
				}
			}
			return nil
		})},
		{"ask, then chunks acknowledged that were not sent", false, hello(func(h *hostile) error {
			if err := h.send(typeSyncAsk, askBody(1)); err != nil {
				return err
			}
			return h.send(typeChunkAck, uints(1, 100))
		})},
	}
}

// anyFrame returns frames of each type, of noise and empty, after a hello.
func anyFrame() (all []act) {
	for typ := range typesOfFrames {
		all = append(all, act{fmt.Sprintf("frame of type %d", typ), false, func(h *hostile) error {
			if err := h.greet(nil); err != nil {
				return err
			}
			if rand.IntN(4) == 0 {
				return h.send(typ, nil)
			}
			return h.send(typ, noise(1+rand.IntN(2000)))
		}})
	}
	return all
}

func askBody(id uint64) []byte {
	w := wire.NewWriter(nil)
	w.Array(2)
	w.Uint(id)
	w.Bool(id%2 == 0)
	return w.Out()
}

func ackBody(offset uint64) []byte {
	w := wire.NewWriter(nil)
	w.Array(4)
	w.Uint(offset)
	w.Array(2)
	w.Uint(0)
	w.Uint(0)
	w.Bool(false)
	w.String("streaming")
	return w.Out()
}
