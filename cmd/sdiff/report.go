package main

import (
	"fmt"
	"strings"

	"github.com/sdiff/sdiff/internal/control"
	"github.com/sdiff/sdiff/merkle"
	"github.com/sdiff/sdiff/replica"
)

// reportExit returns how a command ends by what a comparison or repair found:
// nil only if both sides were seen to be the same.
func reportExit(r replica.Report) error {
	switch {
	case r.Outcome == replica.Same, r.Outcome == replica.Repaired && r.Unsendable == 0:
		return nil
	case r.Outcome == replica.Repaired:
		return outcome(exitPartial)
	case r.Outcome == replica.Different:
		return outcome(exitDifferent)
	}
	return outcome(exitUnreachable) // could not tell, and whatever is not known here
}

// told says on standard error what stands in the way, if something does, and
// returns how the command ends.
func (a *app) told(r replica.Report) error {
	if r.NeedsConsent != "" {
		return &failure{code: control.Different, msg: r.Reason, hint: "if that is what you want: sdiff repair --" + strings.TrimLeft(r.NeedsConsent, "-") + " --data " + a.data}
	}
	if r.Outcome == replica.Unknown {
		return &failure{code: control.CouldNotTell, msg: "could not tell: " + r.Reason}
	}
	return reportExit(r)
}

// found sums up what was compared and what it cost.
func found(r replica.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s at offset %d: %d missing, %d extra, %d changed", r.Outcome, r.Offset, r.Missing, r.Extra, r.Changed)
	if r.Unsendable > 0 {
		fmt.Fprintf(&b, ", %d damaged at the master and left as they are", r.Unsendable)
	}
	fmt.Fprintf(&b, "; %s in, %s out, %s, %s", size(r.BytesIn), size(r.BytesOut), plural(uint64(r.RoundTrips), "round trip"), span(r.Took))
	return b.String()
}

// keysOf returns the number of keys of a fingerprint.
func keysOf(fingerprint string) uint64 {
	s, err := merkle.ParseSummary(fingerprint)
	if err != nil {
		return 0
	}
	return s.Count
}
