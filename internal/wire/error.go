package wire

import (
	"errors"
	"strconv"
)

// An Error says where in the input something is wrong, and what. It never
// holds any of the input's bytes.
type Error struct {
	Offset int    // of the value that is wrong, in bytes from the start
	Field  string // what was being read, as set by Reader.Field; may be empty
	Err    error  // one of the errors below, or the decoder's own
}

// Error returns "wire: field: reason at byte 41".
func (e *Error) Error() string {
	where := "wire: "
	if e.Field != "" {
		where += e.Field + ": "
	}
	return where + e.Err.Error() + " at byte " + strconv.Itoa(e.Offset)
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// What can be wrong with an input.
var (
	// ErrTruncated means that the input ends too early: inside a value, or
	// before a length or count that it announces.
	ErrTruncated = errors.New("input ends too early")
	// ErrTrailing means that bytes follow the last value that was to be read.
	ErrTrailing = errors.New("bytes left over")
	// ErrNotCanonical means that an integer, length or count is not in its
	// shortest form.
	ErrNotCanonical = errors.New("not the shortest encoding")
	// ErrRefused means a msgpack type that is not used here: negative
	// integers, floats, maps, extensions.
	ErrRefused = errors.New("refused type")
	// ErrType means that another type than the one found was to be read.
	ErrType = errors.New("unexpected type")
	// ErrUTF8 means text that is not UTF-8.
	ErrUTF8 = errors.New("text is not UTF-8")
	// ErrDepth means arrays nested deeper than Limits.Depth.
	ErrDepth = errors.New("nested too deep")
	// ErrElements means more array elements than Limits.Elements.
	ErrElements = errors.New("too many elements")
	// ErrRange means a number, length or count outside of what is allowed at
	// this place.
	ErrRange = errors.New("out of range")
)
