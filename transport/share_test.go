package transport

import (
	"bytes"
	"errors"
	"sync"
	"testing"
)

// Shared frames are, on the wire, what others are.
func TestSharedFrameIsAnyOther(t *testing.T) {
	for _, size := range []int{0, 1, 100, copyBelow, 300_000} {
		body := bytes.Repeat([]byte{7}, size)
		want := encodeFrames(t, Frame{Type: 3, Body: body})
		f := Share(3, body)
		for range 2 {
			if got := encodeFrames(t, f); !bytes.Equal(got, want) {
				t.Errorf("a shared frame of %d bytes is encoded otherwise", size)
			}
		}
	}
}

// The pass over the body is what sharing saves: a body that is changed against
// the rules shows that there is no second one.
func TestSharedFrameIsSummedOnce(t *testing.T) {
	body := make([]byte, 100)
	f := Share(3, body)
	encodeFrames(t, f)
	body[0]++
	c := NewConn(&tape{left: encodeFrames(t, f)})
	if _, _, err := c.Read(); !errors.Is(err, ErrChecksum) {
		t.Errorf("the checksum was made anew: %v", err)
	}
}

// A frame made of a shared one by hand must not carry its checksum.
func TestSharedFrameWithOtherFieldsIsSummedAnew(t *testing.T) {
	body := make([]byte, 100)
	for name, change := range map[string]func(*Frame){
		"type":         func(f *Frame) { f.Type++ },
		"body":         func(f *Frame) { f.Body = bytes.Repeat([]byte{1}, 100) },
		"start cut":    func(f *Frame) { f.Body = f.Body[1:] },
		"end cut":      func(f *Frame) { f.Body = f.Body[:99] },
		"no body":      func(f *Frame) { f.Body = nil },
		"all of these": func(f *Frame) { f.Type, f.Body = 9, []byte("other") },
	} {
		f := Share(3, body)
		encodeFrames(t, f)
		change(&f)
		c := NewConn(&tape{left: encodeFrames(t, f)})
		if typ, got, err := c.Read(); err != nil || typ != f.Type || !bytes.Equal(got, f.Body) {
			t.Errorf("another %s: type %d, %d bytes, %v", name, typ, len(got), err)
		}
	}
}

func TestSharedFrameIsWrittenByManyAtOnce(t *testing.T) {
	f := Share(3, make([]byte, 100_000))
	want := encodeFrames(t, Frame{Type: f.Type, Body: f.Body})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := encodeFrames(t, f); !bytes.Equal(got, want) {
				t.Error("a frame written by many at once is garbled")
			}
		})
	}
	wg.Wait()
}
