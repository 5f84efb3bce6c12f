//go:build chaos

package chaos

import (
	"testing"

	"github.com/sdiff/sdiff/internal/control"
)

// The harness itself works: a pair comes up, a write arrives, both end cleanly
// and come up again.
func TestHarness(t *testing.T) {
	m := mustStart(t, t.TempDir(), "serve", "--listen", "127.0.0.1:0")
	f := mustStart(t, t.TempDir(), "follow", "--from", m.ready.Address)
	if _, err := m.Write(t.Context(), []control.Op{{Key: []byte("k"), Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string { return inSync(t, m, f) })
	f.stop(t)
	m.stop(t)
	m = mustStart(t, m.dir, "serve", "--listen", m.ready.Address)
	f.kill()
	f = mustStart(t, f.dir, "follow", "--from", m.ready.Address)
	eventually(t, func() string { return inSync(t, m, f) })
	if v, err := f.Get(t.Context(), []byte("k")); err != nil || string(v) != "v" {
		t.Fatalf("%q, %v", v, err)
	}
}
