package replica

import (
	"testing"
	"time"
)

// TestMakePace makes as many sketches as it may: some at once, then at the rate.
func TestMakePace(t *testing.T) {
	var p makePace
	now := time.Unix(1e9, 0)
	at := now
	made := uint64(0)
	for ; now.Sub(at) < time.Minute; now = now.Add(time.Second / 10) {
		for p.may(now) {
			p.made(2<<20, now)
			made += 2 << 20
		}
	}
	if least, most := uint64(60*makeRate), uint64((60+8+2)*makeRate); made < least || made > most {
		t.Errorf("sketches of %d items in a minute, want %d to %d", made, least, most)
	}
}
