package diff

import (
	"errors"
	"fmt"
)

// ErrBegun is returned by Start if the session has begun already.
var ErrBegun = errors.New("diff: the session has begun already")

// A ParseError says what is wrong with the entries of a message, and where. It
// holds none of the input.
type ParseError struct {
	Offset int // in bytes, from the start of the entries
	Reason string
}

// Error returns "reason, at byte 17 of the entries".
func (e *ParseError) Error() string {
	return fmt.Sprintf("%s, at byte %d of the entries", e.Reason, e.Offset)
}

// What can be wrong with a message as a whole.
var (
	errShape     = &ParseError{Reason: "a message of unknown shape"}
	errLevelZero = &ParseError{Reason: "level zero"}
	errLeftEarly = &ParseError{Reason: "ranges not compared in a message that is not the last"}
	errEmpty     = &ParseError{Reason: "an empty message that is not the last"}
	errOpen      = &ParseError{Reason: "the last message ends within a range"}
)

// A PeerError says how the peer broke the protocol. The session it comes from
// is dead.
type PeerError struct {
	Level  int // the level under way, from 1
	Reason string
}

// Error returns "diff: the peer broke the protocol at level 3: reason".
func (e *PeerError) Error() string {
	return fmt.Sprintf("diff: the peer broke the protocol at level %d: %s", e.Level, e.Reason)
}
