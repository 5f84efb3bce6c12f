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
// The sides take turns. In its turn a side sends one level: statements about
// the ranges of keys that are still in question, in key order, in as many
// messages as it takes. The first level is about the whole key space, every
// other one about what the peer's level before put in question. A statement
// about a range is one of these:
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
// # Why it ends
//
// Every statement but a list of nothing and a verdict calls for an answer, and
// to be silent means to hold the same. A list is answered by a verdict at
// most, a request by a list. A split of n > 1 items has at least two parts and
// at least one of the sender's items in each, so a part has fewer than n of
// them; when the answer comes back, whatever the peer did to it, what is in
// question has no more. So after two levels each range either is decided or
// has fewer of this side's items, and a range with none is answered by a list
// of nothing. There are at most 2 ceil(log2 n) + 4 levels, for the smaller of
// the two n; equal counts, different trees or a side with nothing make no
// difference to that. With equal hashes on one side, items are counted as
// often as they occur, and a list decides its range all the same.
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
// or lists too many, verdicts on items that were not listed, messages out of
// turn. What a peer says of its own items is believed.
//
// # Concurrency
//
// A Session belongs to one goroutine. Messages and findings are plain data.
// Nothing here does I/O, starts a goroutine or reads a clock.
package diff
