package diff

import (
	"math"

	"github.com/sdiff/sdiff/merkle"
)

// Defaults of Config.
const (
	DefaultFrameBytes = 64 << 10
	DefaultWindow     = 32
	DefaultParts      = 64
	DefaultItems      = 32
	DefaultMaxPending = 1 << 20
	DefaultMaxMade    = 2 << 20
)

// Limits of the protocol: both sides rely on them, whatever their Config.
const (
	maxFrameBytes = 1 << 20
	maxParts      = 4096 // parts of one range
	maxItems      = 4096 // item hashes of one list
	maxBound      = 65_001
	// Every second level is mine, and in each of mine a range of my items is
	// cut into parts that are smaller, by half at least: 64 cuts leave nothing
	// of 2^64 items, the peer's as many, and a list, a request for one and a
	// verdict may follow. Before that may come an opening, cells and requests
	// for more, hashes that are lacked.
	maxLevels = 2*64 + 4 + 2*(maxCellRounds+1)
)

// Config tunes a Session. The zero Config is the default; a value out of range
// is moved to the nearest in range. The two sides need not have the same.
type Config struct {
	// FrameBytes is the size from which on nothing is added to a message: a
	// message is longer by at most one entry. If zero, DefaultFrameBytes; at
	// most 1 MiB.
	FrameBytes int
	// Window is how many messages may be under way, unanswered, each way. If
	// zero, DefaultWindow.
	Window int
	// Parts is into how many parts at most a differing range is cut. If zero,
	// DefaultParts; from 2 to 4096.
	Parts int
	// Items is how many items at most are listed one by one: the items of a
	// differing range that has so few here, or at the peer. If zero,
	// DefaultItems; at most 4096.
	Items int
	// MaxPending is how many ranges of one level are remembered at most, at
	// some 24 bytes each; those beyond are counted by Left. If zero,
	// DefaultMaxPending.
	MaxPending int
	// MaxMade is of how many items at most a sketch is made where the cells that
	// both sides keep do not tell what differs, at 0.1 to 0.3 µs each in a single
	// Step. If zero, DefaultMaxMade; if negative none is made, and ranges are
	// compared. It is for the side that plans; the other one makes what that asks
	// for, of a sixteenth more items than this or DefaultMaxMade at most, as the
	// side that plans may know of fewer. A larger one must be the same on both.
	MaxMade int
	// Sketch is the sketch of the very items that are compared, or nil. With
	// one on both sides, most comparisons take one round trip and some 25
	// bytes for each hash that only one side has: two for an item whose value
	// differs.
	Sketch *merkle.Sketch
}

// withDefaults returns c with every field in its range.
func (c Config) withDefaults() Config {
	return Config{
		FrameBytes: inRange(c.FrameBytes, DefaultFrameBytes, 1, maxFrameBytes),
		Window:     inRange(c.Window, DefaultWindow, 1, math.MaxInt32),
		Parts:      inRange(c.Parts, DefaultParts, 2, maxParts),
		Items:      inRange(c.Items, DefaultItems, 1, maxItems),
		MaxPending: inRange(c.MaxPending, DefaultMaxPending, 1, math.MaxInt32),
		MaxMade:    max(0, inRange(c.MaxMade, DefaultMaxMade, -1, math.MaxInt32)),
		Sketch:     c.Sketch,
	}
}

func inRange(v, zero, low, high int) int {
	if v == 0 {
		return zero
	}
	return min(max(v, low), high)
}
