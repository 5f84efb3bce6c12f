// Package diff compares two sets of items and finds what differs, at a cost
// that grows with the difference. It is a protocol as a pure state machine:
// messages go in, messages and findings come out, and who carries them is the
// caller's business.
//
// Each side makes a Session of a snapshot of its own tree. One calls Start;
// what Start and Step return is given, in order, to the other side's Step,
// until both are Done:
//
//	out, err := session.Start()                 // one side only
//	for each message m from the peer {
//		out, err = session.Step(m)          // send out, in order
//		for found := session.Findings(); len(found) > 0; found = session.Findings() { … }
//		if session.Done() { … }
//	}
//
// The sides are equals. Each finds what only it holds; an item whose value
// differs is found on both, with different hashes. Neither changes anything.
//
// # How it works
//
// The sides take turns, and all that a side says in one turn is a level. There
// are two ways to find what differs. Where both sides keep a sketch of their
// items (see package merkle), they begin with these; whatever a sketch does not
// tell, ranges do.
//
// By sketches:
//
//   - The side that begins opens: with count and sum of all it holds, counters
//     that tell about how much two sets differ, and a probe, two bytes about
//     each of eight ranges of keys.
//   - The other one plans. It agrees if count and sum are equal. Otherwise it
//     sends cells of its sketch, as many as the estimated difference needs, with
//     its own count and sum; or it begins with ranges.
//   - The first one combines these cells with its own, which leaves the cells of
//     the difference, and decodes them. If some groups of cells do not tell
//     all, it asks for more of these groups; cells are never sent twice. Having
//     all hashes, it looks up which of them are its own, and checks that its
//     count and sum, less these and with the others, are the peer's. Then it
//     says which hashes it lacks.
//   - The other one looks these up. If it holds each of them once, they are its
//     findings, and it agrees; at that the first one's are findings, too.
//
// By ranges: a level holds statements about the ranges of keys that are still in
// question, in key order, in as many messages as it takes. The first such level
// is about the whole key space, every other one about what the peer's level
// before put in question. A statement about a range is one of these:
//
//   - summaries of its parts: count and sum of what the sender holds in each.
//     Where the receiver holds the same it says nothing more; elsewhere the
//     part is in question at the next level;
//   - the hashes of all items that the sender holds in it, because they are
//     few. What the receiver has besides, only it has: those are its findings;
//   - a request to list, because the peer has few;
//   - a verdict: which items of the peer's list the sender does not hold.
//     Those are the peer's findings.
//
// # Which way
//
// The side that begins does so with ranges if it keeps no sketch, or holds so
// little that a list of it is shortest. The side that plans compares ranges for
// these reasons, too; if about so many items differ that cells would take more
// bytes than to list the smaller side; and if what differs lies side by side, so
// that it is most of a few ranges, as the probe tells. Stats says which way it
// was, and the reason on the side whose reason it is.
//
// Where the cells that are kept are too few, at once or when they have come,
// more are made on both sides: of the items in those ranges of the probe in which
// something differs, as those in the others would cancel out. It costs some
// 0.1 to 0.3 µs for each of these items. If they are more than Config.MaxMade, or
// it is not known how many more cells it takes, ranges are compared.
//
// Ranges are compared after all if cells came four times and did not tell, if
// more would take more bytes than to list all items, or if what they told does
// not explain both summaries. Nothing is a finding before that has been ruled out, so what was
// compared by sketches in vain leaves no trace but its cost. Of comparisons of
// some ten thousand differences a few in a thousand end so: two hashes of a
// group may have all of their cells in common.
//
// # A scope
//
// To compare the keys of a range only, each side clips its snapshot to it and
// has the sketch made of that:
//
//	scope := tree.Clip(lo, hi)
//	session := diff.New(scope, diff.Config{Sketch: merkle.MakeSketch(0, scope)})
//
// Both must clip to the same range, which is theirs to agree on.
//
// # When cells tell the wrong thing
//
// A cell of several items is taken for that of one if its check of 32 bits
// happens to be that of its sum, and if that sum, as a hash, would be in this
// cell of this group: that is a chance of less than 2^-32 for each cell that is
// looked at, 2^-13 for half a million. What is then decoded is almost always
// not done, as the false hash is left over in other cells. If it is done, it is
// another set, and its sum of 64 bits is as good as random: the check of the
// summaries lets one in 2^64 pass. Items with equal hashes, which cancel each
// other out in the cells, are missed there, and caught by their count or
// sum in the same way. So both cost a descent by ranges, and no finding.
//
// That is so by chance. Cells, as sums, can be forged by whoever chooses the
// hashes of items: writers that are not trusted call for a keyed hash.
//
// # Why it ends
//
// Cells come four times at most, so ranges begin at level 10 at the latest.
//
// Every statement about a range but a list of nothing and a verdict calls for
// an answer, and to be silent means to hold the same. A list is answered by a
// verdict at most, a request by a list. A split of n > 1 items has at least two
// parts and at least one of the sender's items in each, so a part has fewer
// than n of them; when the answer comes back, whatever the peer did to it, what
// is in question has no more. So after two levels each range either is decided
// or has fewer of this side's items, and a range with none is answered by a list
// of nothing. There are at most 2 ceil(log2 n) + 4 levels of ranges, for the
// smaller of the two n; equal counts, different trees or a side with nothing
// make no difference to that. With equal hashes on one side, items are counted
// as often as they occur, and a list decides its range all the same.
//
// # Why it cannot get stuck
//
// Exactly one side talks at any time. Each of its messages but the last of the
// level is acknowledged by the listener at once and unconditionally, and the
// talker goes on as long as fewer than Config.Window acks are missing. So the
// last message is sent in the end. It hands the turn over, or ends the
// comparison if nothing in the level calls for an answer; both sides see
// which. Acks never wait for anything, so no two waits can form a circle.
//
// # What it takes
//
// A sketch takes no more than it has cells, whatever the peer says: some 50
// bytes for each of the peer's cells that is decoded, and for each hash that one
// side lacks some 30 while it is looked up. The peer cannot want more hashes
// than cells were sent to it. To look hashes up is one pass over all items, about
// a nanosecond for each, in a single Step, once in a comparison. A message of
// cells reads 64/groups cells for each that it sends; all are read no more than
// once. A sketch that is made takes 16 MiB at most, once in a comparison. The peer may
// have it made, but of no more cells than it takes to list this side's items.
//
// What the peer's level puts in question is remembered unexpanded, 24 bytes
// for a range whatever the length of its keys, and expanded into messages only
// as the window lets them go. The peer spends ten bytes or more on such a
// range, or one to ask for a list of a part that this side has summed up. A
// level's ranges beyond Config.MaxPending are not compared; both sides count
// them in Left. Findings wait as runs of items, 24 bytes each, until they are
// taken.
//
// # A peer that breaks the protocol
//
// Step refuses whatever an honest peer would not have said: answers to what
// was not asked, bounds that do not ascend or lie outside of the range, parts
// or lists too many, verdicts on items that were not listed, cells out of order
// or more than there are, more hashes than cells, messages out of turn. What a
// peer says of its own items is believed; forged cells end in ranges.
//
// # Concurrency
//
// A Session belongs to one goroutine. Messages and findings are plain data.
// Nothing here does I/O, starts a goroutine or reads a clock.
package diff
