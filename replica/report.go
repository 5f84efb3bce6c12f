package replica

import (
	"time"

	"github.com/sdiff/sdiff/diff"
)

// A Report says what a comparison or repair found, did and cost.
type Report struct {
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"`
	// Why says what it was begun for.
	Why    string `json:"why,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
	// Offset is where both sides were compared last.
	Offset uint64 `json:"offset"`
	// Before and After are the follower's own fingerprints, Master the
	// master's at the end.
	Before string `json:"before"`
	After  string `json:"after"`
	Master string `json:"master"`
	// Missing keys are the master's alone, Extra ones the follower's alone,
	// Changed ones differ in their values. Unsendable ones are damaged at the
	// master and were left as they are.
	Missing    uint64 `json:"missing"`
	Extra      uint64 `json:"extra"`
	Changed    uint64 `json:"changed"`
	Unsendable uint64 `json:"unsendable"`
	// Put and Deleted are what was done about them.
	Put     uint64 `json:"put"`
	Deleted uint64 `json:"deleted"`
	// Keys names up to a thousand keys that were put or deleted, if the repair was
	// asked for with AcceptRollback or goes on with one; MoreKeys: there are more.
	Keys     []Difference `json:"keys,omitempty"`
	MoreKeys bool         `json:"more_keys,omitempty"`
	// BytesIn and BytesOut count the whole connection while the repair ran,
	// CompareBytes only the comparison, both ways. RoundTrips counts how often
	// the follower had to wait for an answer.
	BytesIn      uint64        `json:"bytes_in"`
	BytesOut     uint64        `json:"bytes_out"`
	CompareBytes uint64        `json:"compare_bytes"`
	RoundTrips   int           `json:"round_trips"`
	Rounds       int           `json:"rounds"`
	Start        time.Time     `json:"start"`
	Took         time.Duration `json:"took_ns"`
	// Method is how the last comparison was done, MethodWhy why so; both are empty
	// if the fingerprints were equal, so that there was nothing to compare.
	Method    diff.Method `json:"method,omitempty"`
	MethodWhy string      `json:"method_why,omitempty"`
	// NeedsConsent names the option that would let a stopped repair go on.
	NeedsConsent string `json:"needs_consent,omitempty"`
}
