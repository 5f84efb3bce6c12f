package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/stream"
)

// Defaults of the configs.
const (
	DefaultTailBytes    = 64 << 20
	DefaultLogBytes     = 1 << 30
	DefaultLogAge       = 7 * 24 * time.Hour
	DefaultHeartbeat    = time.Second
	DefaultSilence      = 10 * time.Second
	DefaultMaxFollowers = 1000
	DefaultMaxRepairs   = 4
	DefaultScrub        = 0.05
)

// MasterConfig configures a Master. Zero means the default. It must not be
// changed once it was given to NewMaster.
type MasterConfig struct {
	// Listener is where followers connect. If nil, nobody is served. Run
	// closes it.
	Listener net.Listener
	// Hash is the item hash. If zero, it is XXH64. It is fixed when the
	// dataset is created.
	Hash merkle.Hasher
	// Adopt takes over a store that holds keys sdiff did not write.
	Adopt bool
	// AcceptDataLoss starts over a store from which something is missing, and
	// AcceptStore over one with foreign or changed keys, as it is and in a new
	// epoch. Followers that hold more park until a person decides.
	AcceptDataLoss, AcceptStore bool
	// TailBytes bounds the newest commits kept in memory for followers, and, down
	// to 64 KiB for each, what waits to be written to all of them together.
	TailBytes int
	// LogBytes and LogAge bound the log in the store; what exceeds either is
	// trimmed from the old end. If negative, there is no such limit.
	LogBytes int64
	LogAge   time.Duration
	// Heartbeat is how often an idle session speaks, Silence how long a peer
	// may say nothing before it is dropped.
	Heartbeat, Silence time.Duration
	// MaxFollowers bounds the sessions at once, MaxRepairs the repairs served
	// at once; a follower that asks for one more waits its turn.
	MaxFollowers, MaxRepairs int
	// Scrub is the share of one core that re-reading the store and holding it
	// against the tree may take, in the background. If negative, it is not done.
	Scrub float64
	// Logger takes what an operator should read. If nil, nothing is logged.
	Logger *slog.Logger
	// Observer is told of every change of state.
	Observer Observer

	wall func() time.Time // the machine's clock, which tests set
}

func (c MasterConfig) withDefaults() MasterConfig {
	setDefault(&c.TailBytes, DefaultTailBytes)
	setDefault(&c.LogBytes, DefaultLogBytes)
	setDefault(&c.LogAge, DefaultLogAge)
	setDefault(&c.Heartbeat, DefaultHeartbeat)
	setDefault(&c.Scrub, DefaultScrub)
	setDefault(&c.Silence, DefaultSilence)
	setDefault(&c.MaxFollowers, DefaultMaxFollowers)
	setDefault(&c.MaxRepairs, DefaultMaxRepairs)
	if c.wall == nil {
		c.wall = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every bad field at once.
func (c MasterConfig) Validate() error {
	c = c.withDefaults()
	return errors.Join(
		atLeast("TailBytes", c.TailBytes, 0),
		atLeast("Heartbeat", c.Heartbeat, time.Millisecond),
		atLeast("Silence", c.Silence, 2*c.Heartbeat),
		atLeast("MaxFollowers", c.MaxFollowers, 1),
		atLeast("MaxRepairs", c.MaxRepairs, 1),
		share("Scrub", c.Scrub),
	)
}

// FollowerConfig configures a Follower. Zero means the default. It must not be
// changed once it was given to NewFollower.
type FollowerConfig struct {
	// ID names the follower to its master, which remembers it by this name
	// until told to forget: 1 to 100 printable ASCII characters.
	ID string
	// Dial connects to the master.
	Dial func(ctx context.Context) (net.Conn, error)
	// Hash is the item hash; it must be the master's.
	Hash merkle.Hasher
	// Adopt takes over a store that holds keys sdiff did not write. The first
	// repair makes them equal to the master's.
	Adopt bool
	// Repair says when repairs begin by themselves.
	Repair RepairPolicy
	// Heartbeat is how often an idle session speaks, Silence how long the
	// master may say nothing before the connection is dropped.
	Heartbeat, Silence time.Duration
	// Scrub is the share of one core that re-reading the store and holding it
	// against the tree may take, in the background. If negative, it is not done.
	Scrub float64
	// Logger takes what an operator should read. If nil, nothing is logged.
	Logger *slog.Logger
	// Observer is told of every change of state.
	Observer Observer
	// Fault, if not nil, sees the ops of each commit of the stream before they
	// are applied and returns those to apply instead, as a bug or a bad cable
	// would. It is for demonstrations and tests.
	Fault func(ops []stream.Op) []stream.Op
}

func (c FollowerConfig) withDefaults() FollowerConfig {
	setDefault(&c.Heartbeat, DefaultHeartbeat)
	setDefault(&c.Scrub, DefaultScrub)
	setDefault(&c.Silence, DefaultSilence)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every bad field at once.
func (c FollowerConfig) Validate() error {
	c = c.withDefaults()
	errs := []error{
		atLeast("Heartbeat", c.Heartbeat, time.Millisecond),
		atLeast("Silence", c.Silence, 2*c.Heartbeat),
		atLeast("Repair.Every", c.Repair.Every, 0),
		share("Scrub", c.Scrub),
	}
	if !validID(c.ID) {
		errs = append(errs, &ConfigError{"ID", c.ID, "must be 1 to 100 printable ASCII characters without spaces"})
	}
	if c.Dial == nil {
		errs = append(errs, &ConfigError{"Dial", nil, "must be set"})
	}
	return errors.Join(errs...)
}

func validID(id string) bool {
	for _, c := range id {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= 100
}

// A RepairPolicy says when a follower repairs itself without being asked. The
// zero policy: when it connects and its copy is not what its position says, or
// has no confirmed position; and when it notices drift.
type RepairPolicy struct {
	Manual    bool          // never by itself
	NoConnect bool          // not on connect
	NoDrift   bool          // not on drift
	Every     time.Duration // also this often, if positive
}

// A ConfigError is one bad field of a config.
type ConfigError struct {
	Field string
	Value any
	Rule  string
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("%s (%v) %s", e.Field, e.Value, e.Rule)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func atLeast[T int | time.Duration](field string, v, least T) error {
	if v < least {
		return &ConfigError{field, v, fmt.Sprintf("must be at least %v", least)}
	}
	return nil
}

func share(field string, v float64) error {
	if !(v <= 1) { // NaN too
		return &ConfigError{field, v, "must be at most 1"}
	}
	return nil
}

// An Item is a key and its value.
type Item struct {
	Key, Value []byte
}

// A Change is one op as Watch yields it.
type Change struct {
	// Position is that of the op's commit. For a Gap it is where the watch
	// goes on; for a Repair, the position whose state the op carries.
	Position stream.Position
	Key      []byte
	Value    []byte
	Delete   bool
	// Last is true for the last op of its commit: only then is Position a
	// bookmark that loses nothing.
	Last bool
	// Repair marks an op that a repair made, not a commit.
	Repair bool
	// Gap says that changes were missed here: the watcher was too slow, or the
	// copy jumped. What the copy holds must be read anew.
	Gap bool
}

// State is what a replica is doing.
type State string

// The states. A follower whose base is incomplete is Initializing until a
// repair has been verified, however busy its stream.
const (
	Starting     State = "starting"     // opening the store, building the tree
	Serving      State = "serving"      // a master at work
	Connecting   State = "connecting"   // a follower without a session
	Disconnected State = "disconnected" // the same, as its master sees it
	Initializing State = "initializing" // first copy under way
	CatchingUp   State = "catching up"  // behind head
	Streaming    State = "streaming"    // at head, base complete
	Comparing    State = "comparing"
	Repairing    State = "repairing"
	Drifted      State = "drifted"   // differs, and no repair is under way
	Parked       State = "parked"    // the master cannot confirm the position
	Stalled      State = "stalled"   // connected or writing, and no progress for twice the silence limit
	ReadOnly     State = "read only" // the store takes no writes now
	Failed       State = "failed"
	Ended        State = "ended"
)

// Status is a replica's own account of itself.
type Status struct {
	Role    string    `json:"role"`
	State   State     `json:"state"`
	Since   time.Time `json:"since"`
	Why     string    `json:"why,omitempty"`
	ID      string    `json:"id,omitempty"`
	Dataset string    `json:"dataset,omitempty"`
	Hash    string    `json:"hash"`
	Address string    `json:"address,omitempty"`

	// Epoch and Offset are where this copy stands, Head the newest offset that
	// is known of the master.
	Epoch  string `json:"epoch,omitempty"`
	Offset uint64 `json:"offset"`
	Head   uint64 `json:"head"`
	// Fingerprint is the copy's own, Master the one the master's commit at
	// Offset carried, InSync whether they are equal; nil where unknown.
	Keys        uint64 `json:"keys"`
	Fingerprint string `json:"fingerprint"`
	Master      string `json:"master_fingerprint,omitempty"`
	InSync      *bool  `json:"in_sync,omitempty"`
	// Complete says that the base is complete.
	Complete bool `json:"complete"`

	// The lag behind Head. Without a session LagKnown is false: these are of
	// when the master was last heard of, and null in JSON.
	LagKnown   bool    `json:"lag_known"`
	LagCommits uint64  `json:"lag_commits"`
	LagSeconds float64 `json:"lag_seconds"`
	// Progress is when the position last moved or was last confirmed by the
	// master: a stall cannot look healthy.
	Progress    time.Time  `json:"progress"`
	LastContact *time.Time `json:"last_contact,omitempty"`

	LastRepair *Report          `json:"last_repair,omitempty"`
	Followers  []FollowerStatus `json:"followers,omitempty"`
	Log        *LogStatus       `json:"log,omitempty"`
	Scrub      ScrubStatus      `json:"scrub"`
	Store      StoreStatus      `json:"store"`
	// Memory is that of the whole process. The program fills it in, a replica
	// does not know it.
	Memory *MemoryStatus `json:"memory,omitempty"`
}

// MemoryStatus says how much memory a process uses beside files that are mapped
// into it, in bytes.
type MemoryStatus struct {
	Budget int64 `json:"budget"` // for all but the tree
	Used   int64 `json:"used"`   // with the tree
}

// FollowerStatus is what a master knows of one follower.
type FollowerStatus struct {
	ID          string    `json:"id"`
	Connected   bool      `json:"connected"`
	Address     string    `json:"address,omitempty"`
	State       State     `json:"state"`
	Since       time.Time `json:"since"`
	Why         string    `json:"why,omitempty"`
	Acked       uint64    `json:"acked"`
	Durable     bool      `json:"durable"`
	Complete    bool      `json:"complete"`
	InSync      *bool     `json:"in_sync,omitempty"`
	LagCommits  uint64    `json:"lag_commits"`
	LagSeconds  float64   `json:"lag_seconds"`
	LastContact time.Time `json:"last_contact"`
	BytesOut    uint64    `json:"bytes_out"`
	BytesIn     uint64    `json:"bytes_in"`
}

// LogStatus describes a master's log.
type LogStatus struct {
	Start uint64 `json:"start"` // the oldest offset a follower can resume at
	Bytes int64  `json:"bytes"` // about
	Tail  uint64 `json:"tail"`  // the oldest offset in memory
}

// ScrubStatus describes the re-reading of the store in the background, and what
// is known to be wrong with it.
type ScrubStatus struct {
	Running bool    `json:"running"`         // a pass is under way
	Share   float64 `json:"share,omitempty"` // of a core; none if it is turned off
	// Began is when the pass under way, or the last, began. Items and Bytes were
	// read in it, Progress is the share of the keys that lie behind it, and ETA
	// when it ends at its pace.
	Began    *time.Time `json:"began,omitempty"`
	Items    uint64     `json:"items"`
	Bytes    uint64     `json:"bytes"`
	Progress float64    `json:"progress"`
	ETA      *time.Time `json:"eta,omitempty"`
	// ItemsPerSecond and BytesPerSecond are the pace of that pass.
	ItemsPerSecond float64 `json:"items_per_second"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	// Passes counts the complete ones since the start, Last is when the last of
	// them ended, and TookSeconds how long it took.
	Passes      uint64     `json:"passes"`
	Last        *time.Time `json:"last,omitempty"`
	TookSeconds float64    `json:"took_seconds,omitempty"`
	// Found counts the keys that the store did not hold as it should, found by
	// the scrub, by Verify or by a read since the start; Bad, those known not to
	// be mended yet, Keys at most 20 of them. On a master these are sent to
	// nobody; on a follower the next repair mends them.
	Found uint64   `json:"found"`
	Bad   uint64   `json:"bad"`
	Keys  []BadKey `json:"bad_keys,omitempty"`
	// More says that Bad is a lower bound.
	More  bool   `json:"bad_more,omitempty"`
	Error string `json:"error,omitempty"`
}

// StoreStatus describes the store.
type StoreStatus struct {
	Path     string   `json:"path"`
	Bytes    int64    `json:"bytes"`
	Free     int64    `json:"free"`
	Sync     bool     `json:"sync"`
	TreeHeap int64    `json:"tree_bytes"`
	Notes    []string `json:"notes,omitempty"`
}

// Outcome is how a comparison or repair ended. There are never two outcomes
// only: what could not be told is not the same.
type Outcome string

// The outcomes.
const (
	Same      Outcome = "same"
	Different Outcome = "different"
	Repaired  Outcome = "repaired"
	Unknown   Outcome = "could not tell"
)

// RepairOptions are what a person may say when asking for a repair.
type RepairOptions struct {
	// DryRun compares only and changes nothing. A parked follower, too, tells
	// what it would take to make it what its master is.
	DryRun bool
	// AllowMassDelete lets the repair delete more than half of the copy.
	AllowMassDelete bool
	// AcceptRollback lets a parked follower go on with a master that cannot
	// confirm its position.
	AcceptRollback bool
	// Each is told of every difference that a dry run finds, in no order. It
	// is called on the goroutine of Repair.
	Each func(Difference)
}

// A Kind says in what way a key differs.
type Kind byte

// The kinds, seen from the follower.
const (
	Missing Kind = '-' // the master's alone
	Extra   Kind = '+' // the follower's alone
	Changed Kind = '*' // in both, with other values
)

// A Difference is one key that differs. In JSON it is as sdiff diff prints it:
// "diff", and "key" or "key64" as in BadKey.
type Difference struct {
	Kind Kind
	Key  []byte
}

// A VerifyReport says whether the store holds what the tree says.
type VerifyReport struct {
	OK    bool   `json:"ok"`
	Items uint64 `json:"items"` // read from the store
	// Store is the fingerprint recomputed from the store, Tree the one kept.
	Store string `json:"store"`
	Tree  string `json:"tree"`
	// Bad counts the keys whose stored item is not the tree's; Keys names at
	// most a thousand of them.
	Bad  uint64        `json:"bad"`
	Keys []BadKey      `json:"keys,omitempty"`
	Took time.Duration `json:"took_ns"`
}

// An Observer is told of what happens, as it happens. Nil fields are fine. The
// funcs are called on the replica's own goroutines, Damage also on that of a
// caller who reads; they must return at once.
type Observer struct {
	// State is told of a replica's own changes of state: that it parks, stalls,
	// finds its store read only and not any more, or fails, as when a write's
	// outcome is unknown.
	State func(s State, why string)
	// Follower is told by a master of a follower's changes of state.
	Follower func(id string, s State, why string)
	// Session is told by a follower how an attempt to get a session, or a session,
	// ended: a *PeerError if the master said why.
	Session func(err error)
	// Refused is told by a master of a follower that it did not serve.
	Refused func(id, address string, code Code, reason string)
	// Trimmed is told by a master that its log begins at start from now on, and
	// which followers that it knows have not got what came before, so that a
	// repair awaits them.
	Trimmed func(start uint64, below []string)
	// Drift is told when a follower's fingerprint is not its master's.
	Drift func(at stream.Position, own merkle.Summary)
	// Repair is told how a repair ended.
	Repair func(Report)
	// Damage is told of keys that were found not to be in the store as they
	// were written, and not known to be so before.
	Damage func(keys []BadKey)
}
