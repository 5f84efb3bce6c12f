package control

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"syscall"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/replica/store"
)

// A Code names a kind of trouble. Codes are part of the command line's JSON:
// they are never renamed, only added to.
type Code string

// The codes. A refusal by the other replica is "refused_" and the name of the
// replica.Code.
const (
	Usage          Code = "usage"           // a request that makes no sense
	BadKey         Code = "bad_key"         // empty or reserved
	BadInput       Code = "bad_input"       // a line or a file that cannot be loaded
	TooLarge       Code = "too_large"       // a key, value or commit over the limit
	WrongRole      Code = "wrong_role"      // a request or a store for the other role
	OtherDataset   Code = "other_dataset"   // the store holds another dataset
	OtherHash      Code = "other_hash"      // the store was made with another item hash
	NotEmpty       Code = "not_empty"       // the store holds keys sdiff did not write
	Incomplete     Code = "incomplete"      // the copy may lack anything
	InUse          Code = "in_use"          // the directory or the port belongs to another process
	BadOption      Code = "bad_option"      // a config or a database that cannot keep the promises
	NotFound       Code = "not_found"       // no such key or follower
	Trimmed        Code = "offset_trimmed"  // the offset is no longer in the log
	Ahead          Code = "offset_ahead"    // the offset lies in the future
	UnknownEpoch   Code = "unknown_epoch"   // the position belongs to another history
	Unreachable    Code = "unreachable"     // nobody serves the directory
	CutOff         Code = "cut_off"         // the answer ended before its end
	NotConnected   Code = "not_connected"   // the follower has no session with its master
	CouldNotTell   Code = "could_not_tell"  // a comparison without an outcome
	Busy           Code = "busy"            // under way already, or too many requests
	Connected      Code = "connected"       // the follower to be forgotten is connected
	Ending         Code = "ending"          // the process is going down
	OutcomeUnknown Code = "outcome_unknown" // nobody knows whether the write is there
	ReadOnly       Code = "read_only"       // writes are turned off
	Permission     Code = "permission"      // the system does not allow it
	Timeout        Code = "timeout"         // it took longer than allowed
	Partial        Code = "partial"         // some items failed
	Different      Code = "different"       // differences that were not repaired
	Damaged        Code = "damaged"         // the store does not hold what it should
	Interrupted    Code = "interrupted"     // ended by a signal
	Internal       Code = "internal"        // anything else
)

// An Error is what a replica answered instead of doing what it was asked.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// sentinels maps errors to codes; the first that matches counts.
var sentinels = []struct {
	err  error
	code Code
}{
	{store.ErrCorrupt, Damaged},
	{replica.ErrDamaged, Damaged},
	{replica.ErrNotFound, NotFound},
	{replica.ErrOutcomeUnknown, OutcomeUnknown},
	{store.ErrPoisoned, OutcomeUnknown},
	{replica.ErrNotEmpty, NotEmpty},
	{replica.ErrIncomplete, Incomplete},
	{replica.ErrUnknownEpoch, UnknownEpoch},
	{replica.ErrTrimmed, Trimmed},
	{replica.ErrAhead, Ahead},
	{replica.ErrNotConnected, NotConnected},
	{replica.ErrRepairing, Busy},
	{replica.ErrConnected, Connected},
	{replica.ErrKey, BadKey},
	{replica.ErrClosed, Ending},
	{store.ErrClosed, Ending},
	{store.ErrNoSpace, ReadOnly},
	{store.ErrNotWritable, ReadOnly},
	{syscall.ENOSPC, ReadOnly},
	{syscall.EADDRINUSE, InUse},
	{fs.ErrPermission, Permission},
	{context.DeadlineExceeded, Timeout},
	{context.Canceled, Ending},
}

// Classify returns the code of an error of package replica or of a store,
// through any wrapping; Internal for one that it does not know.
func Classify(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if _, ok := errors.AsType[*replica.LimitError](err); ok {
		return TooLarge
	}
	if _, ok := errors.AsType[*store.LimitError](err); ok {
		return TooLarge
	}
	if _, ok := errors.AsType[*store.KeyError](err); ok {
		return BadKey
	}
	if e, ok := errors.AsType[*replica.PeerError](err); ok {
		return Code("refused_" + e.Code.String())
	}
	if _, ok := errors.AsType[*replica.ConfigError](err); ok {
		return BadOption
	}
	if e, ok := errors.AsType[*replica.IdentityError](err); ok {
		switch e.What {
		case "role":
			return WrongRole
		case "dataset":
			return OtherDataset
		}
		return OtherHash
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.code
		}
	}
	return Internal
}

// asError returns the error as it is answered.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, context.Canceled) {
		return &Error{Ending, "the process is ending"}
	}
	return &Error{Code: Classify(err), Message: err.Error()}
}

// httpStatus returns the HTTP status of a code: for curl and the like, our own
// client looks at the code.
func httpStatus(c Code) int {
	switch c {
	case Usage, BadKey, TooLarge, WrongRole:
		return http.StatusBadRequest
	case NotFound:
		return http.StatusNotFound
	case Trimmed, Ahead, UnknownEpoch:
		return http.StatusGone
	case Busy, Connected:
		return http.StatusConflict
	case Ending, NotConnected, ReadOnly:
		return http.StatusServiceUnavailable
	case Timeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}
