package transport_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/sdiff/sdiff/transport"
)

// kinds are the connections that the benchmarks compare.
var kinds = []struct {
	name string
	dial func(b *testing.B) (x, y net.Conn)
}{
	{"tcp", func(b *testing.B) (x, y net.Conn) {
		l, err := transport.Listen("127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		x, err = transport.DialTCP(l.Addr().String())(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		if y, err = l.Accept(); err != nil {
			b.Fatal(err)
		}
		return x, y
	}},
	{"pipe", func(*testing.B) (x, y net.Conn) { return transport.Pipe() }},
}

// BenchmarkThroughput sends frames one way, one Write for each batch.
func BenchmarkThroughput(b *testing.B) {
	for _, k := range kinds {
		for _, c := range []struct{ size, batch int }{{100, 1}, {100, 64}, {4 << 10, 1}, {64 << 10, 1}, {1 << 20, 1}, {4 << 20, 1}} {
			b.Run(fmt.Sprintf("%s/size=%d/batch=%d", k.name, c.size, c.batch), func(b *testing.B) {
				nx, ny := k.dial(b)
				x, y := transport.NewConn(nx), transport.NewConn(ny)
				defer y.Close()
				y.SetLimit(transport.MaxBody)
				frames := make([]transport.Frame, c.batch)
				for i := range frames {
					frames[i].Body = make([]byte, c.size)
				}
				b.SetBytes(int64(c.size * c.batch))
				b.ReportAllocs()
				done := make(chan int)
				go func() {
					n := 0
					for {
						if _, _, err := y.Read(); err != nil {
							done <- n
							return
						}
						n++
					}
				}()
				sent := 0
				for b.Loop() {
					if err := x.Write(frames...); err != nil {
						b.Fatal(err)
					}
					sent += c.batch
				}
				x.Close()
				if got := <-done; got != sent {
					b.Fatalf("%d frames sent, %d came", sent, got)
				}
			})
		}
	}
}

// BenchmarkRoundTrip sends a small frame there and back.
func BenchmarkRoundTrip(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			nx, ny := k.dial(b)
			x, y := transport.NewConn(nx), transport.NewConn(ny)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					typ, body, err := y.Read()
					if err != nil || y.Write(transport.Frame{Type: typ, Body: body}) != nil {
						return
					}
				}
			}()
			frame := transport.Frame{Type: 1, Body: make([]byte, 100)}
			b.ReportAllocs()
			for b.Loop() {
				if err := x.Write(frame); err != nil {
					b.Fatal(err)
				}
				if _, _, err := x.Read(); err != nil {
					b.Fatal(err)
				}
			}
			x.Close()
			<-done
			y.Close()
		})
	}
}
