package control

import (
	"time"

	"github.com/sdiff/sdiff/replica"
	"github.com/sdiff/sdiff/stream"
)

// Bounds of the protocol.
const (
	// MaxRequests is how many requests a server serves at once.
	MaxRequests = 128
	// maxBody bounds a request's body: the largest commit a store takes, in
	// base64 and with the JSON around each of its ops.
	maxBody = 32 << 20
	// maxLine bounds one line of an answer: the largest item in base64.
	maxLine = 4 << 20
	// maxAnswer bounds an answer that is one object.
	maxAnswer = 64 << 20
	// stall is how long a client may leave a line of an answer unread.
	stall = 5 * time.Minute
)

// Info says who serves a directory. The limits are its store's.
type Info struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
	Role    string `json:"role"`
	Limits  Limits `json:"limits"`
}

// Limits are the largest things the process takes, as store.Limits.
type Limits struct {
	Key         int `json:"key"`
	Value       int `json:"value"`
	CommitBytes int `json:"commit_bytes"`
	CommitOps   int `json:"commit_ops"`
}

// A Key is the request of get and delete.
type Key struct {
	Key []byte `json:"key"`
}

// A Value is the answer of get.
type Value struct {
	Value []byte `json:"value"`
}

// An Op puts or deletes one key.
type Op struct {
	Key    []byte `json:"key"`
	Value  []byte `json:"value,omitempty"`
	Delete bool   `json:"delete,omitempty"`
}

// A Write is one commit.
type Write struct {
	Ops []Op `json:"ops"`
}

// A Position is the answer of write and delete. Token is the whole position in
// the form that stream.ParsePosition takes.
type Position struct {
	Epoch       string `json:"epoch"`
	Offset      uint64 `json:"offset"`
	Fingerprint string `json:"fingerprint"`
	Token       string `json:"position"`
}

// NewPosition returns a position as it is answered.
func NewPosition(p stream.Position) Position {
	return Position{Epoch: p.Epoch.String(), Offset: p.Offset, Fingerprint: p.Fingerprint.String(), Token: p.String()}
}

// A List asks for the items whose keys begin with Prefix, in key order; for at
// most Limit of them unless that is zero.
type List struct {
	Prefix []byte `json:"prefix,omitempty"`
	Limit  uint64 `json:"limit,omitempty"`
	Values bool   `json:"values,omitempty"`
}

// A Watch asks for the changes from the commit From on, or from now on if that
// is zero, to keys that begin with Prefix.
type Watch struct {
	From   uint64 `json:"from,omitempty"`
	Prefix []byte `json:"prefix,omitempty"`
}

// A Repair asks a follower to compare itself with its master and, unless it is
// a dry run, to make itself equal. Keys asks a dry run for every difference.
type Repair struct {
	DryRun          bool `json:"dry_run,omitempty"`
	AllowMassDelete bool `json:"allow_mass_delete,omitempty"`
	AcceptRollback  bool `json:"accept_rollback,omitempty"`
	Keys            bool `json:"keys,omitempty"`
}

// A Forget asks a master to forget a follower.
type Forget struct {
	ID string `json:"id"`
}

// An Item is one line of a list. The value is there if it was asked for.
type Item struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value,omitempty"`
}

// A Change is one line of a watch.
type Change struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
	Key    []byte `json:"key,omitempty"`
	Value  []byte `json:"value,omitempty"`
	Delete bool   `json:"delete,omitempty"`
	// Last marks the last matching op of a commit.
	Last   bool `json:"last,omitempty"`
	Repair bool `json:"repair,omitempty"`
	Gap    bool `json:"gap,omitempty"`
}

// A Difference is one line of a dry run: a key and "-", "+" or "*".
type Difference struct {
	Kind string `json:"kind"`
	Key  []byte `json:"key"`
}

// A Frame is one line of an answer that is JSON lines: exactly one field is
// set. The last line has End, Report or Error; without one of them the answer
// was cut off.
type Frame struct {
	Item       *Item           `json:"item,omitempty"`
	Change     *Change         `json:"change,omitempty"`
	Difference *Difference     `json:"difference,omitempty"`
	Report     *replica.Report `json:"report,omitempty"`
	End        *End            `json:"end,omitempty"`
	Error      *Error          `json:"error,omitempty"`
}

// An End is the last line of a list.
type End struct {
	Count uint64 `json:"count"`
}
