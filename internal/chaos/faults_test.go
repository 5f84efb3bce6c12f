//go:build chaos

package chaos

import (
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/sdiff/sdiff/internal/faultnet"
)

// A fault is something that goes wrong, or that an operator does.
type fault struct {
	name string
	// weight says how often it is drawn, compared with the others.
	weight int
	// do makes it happen. Those of the network are counted by the link, when
	// they have hit something; the others count themselves.
	do func(c *cluster)
}

// faults are all that can happen in a round.
var faults = []fault{
	{"kill master", 6, func(c *cluster) { c.count("kill -9 master"); c.again(c.kill, c.master) }},
	{"kill follower", 6, func(c *cluster) { c.count("kill -9 follower"); c.again(c.kill, c.follower()) }},
	{"kill both", 4, func(c *cluster) { c.count("kill -9 both"); c.again(c.kill, c.master, c.follower()) }},
	{"kill all", 1, func(c *cluster) { c.count("kill -9 all"); c.again(c.kill, c.all()...) }},
	{"stop master", 3, func(c *cluster) { c.count("clean stop master"); c.again(c.stop, c.master) }},
	{"stop follower", 3, func(c *cluster) { c.count("clean stop follower"); c.again(c.stop, c.follower()) }},
	{"pause master", 4, func(c *cluster) { c.count("pause master"); c.freeze(c.master) }},
	{"pause follower", 4, func(c *cluster) { c.count("pause follower"); c.freeze(c.follower()) }},
	{"long pause", 1, func(c *cluster) { c.count("pause beyond silence"); c.freezeLong() }},

	{"cut", 6, (*cluster).cut},
	{"half-close", 2, func(c *cluster) { c.someLink().HalfClose(c.direction()) }},
	{"black hole", 4, (*cluster).blackHole},
	{"stall", 2, (*cluster).stall},
	{"refuse", 1, (*cluster).refuse},
	{"throttle", 4, func(c *cluster) { c.someLink().SetRate(c.direction(), 1000<<c.rng.IntN(9)) }},
	{"delay", 3, func(c *cluster) {
		c.someLink().SetDelay(c.direction(), time.Duration(c.rng.IntN(80))*time.Millisecond, time.Duration(c.rng.IntN(40))*time.Millisecond)
	}},
	{"split", 1, func(c *cluster) { c.someLink().SplitMax(c.direction(), 1+c.rng.IntN(1000)) }},
	{"merge", 1, func(c *cluster) {
		c.someLink().MergeFor(c.direction(), time.Duration(1+c.rng.IntN(30))*time.Millisecond)
	}},
	{"flip", 4, func(c *cluster) { c.someLink().FlipByte(c.direction(), c.rng.IntN(20_000)) }},
	{"noise", 1, func(c *cluster) { c.someLink().FlipProbability(c.direction(), 1e-5) }},
	{"duplicate", 4, func(c *cluster) { c.someLink().DuplicateFrame(c.frames()) }},
	{"swap", 4, func(c *cluster) { c.someLink().SwapFrames(c.frames()) }},
	{"drop", 4, func(c *cluster) { c.someLink().DropFrame(c.frames()) }},
	{"heal", 5, func(c *cluster) { c.heal(c.someLink()) }},

	{"damage keys", 8, (*cluster).damageKeys},
	{"damage files", 6, (*cluster).damageFiles},
	{"wipe", 2, (*cluster).wipeFollower},
	{"promote", 2, (*cluster).promoteInSync},
	{"promote behind", 2, (*cluster).promoteBehind},
	{"restore", 2, (*cluster).restoreInSync},
	{"restore behind", 2, (*cluster).restoreBehind},
	{"nothing", 3, func(c *cluster) { c.wait(time.Second, 3*time.Second) }},
}

// mustFire are the kinds that a long run must have seen, each by the name it is
// counted by.
var mustFire = []string{
	"kill -9 master", "kill -9 follower", "kill -9 both", "kill -9 all", "clean stop master", "clean stop follower",
	"pause master", "pause follower", "pause beyond silence",
	"keys deleted", "keys changed", "keys added", "file damaged", "damage refused", "directory wiped",
	"promoted in sync", "promoted behind", "restored in sync", "restored behind", "rollback accepted",
	"runs with sync=never", "log trimmed", "older than the log", "repairs seen by a watch",
	"net delay", "net throttle", "net stall", "net black hole", "net cut", "net half-close", "net split", "net merge",
	"net flip", "net duplicate", "net swap", "net drop", "net refuse",
}

// draw returns the faults of a round, each as often as it is likely: in every
// round other kinds are left out, so that those that are rare get room.
func draw(r *rand.Rand) (deck []*fault) {
	for len(deck) == 0 {
		for i := range faults {
			if r.IntN(2) == 0 {
				for range faults[i].weight {
					deck = append(deck, &faults[i])
				}
			}
		}
	}
	return deck
}

// inject does what goes wrong, for so long.
func (c *cluster) inject(d time.Duration) {
	deck := draw(c.rng)
	for end := time.Now().Add(d); time.Now().Before(end); c.wait(0, 500*time.Millisecond) {
		c.alive()
		f := deck[c.rng.IntN(len(deck))]
		c.did("%s", f.name)
		c.faults++
		f.do(c)
	}
}

// all returns all nodes.
func (c *cluster) all() (nodes []int) {
	for i := range c.nodes {
		nodes = append(nodes, i)
	}
	return nodes
}

// again ends nodes and starts them again, in any order, most often at once.
func (c *cluster) again(end func(int), nodes ...int) {
	for _, i := range nodes {
		end(i)
	}
	if c.rng.IntN(3) == 0 {
		c.wait(0, 2*time.Second)
	}
	c.rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	for _, i := range nodes {
		c.up(i)
	}
}

// freeze stops a process for some time.
func (c *cluster) freeze(i int) {
	c.signal(i, syscall.SIGSTOP)
	c.wait(50*time.Millisecond, 3*time.Second)
	c.signal(i, syscall.SIGCONT)
}

// freezeLong stops any process for longer than its peers wait for a word.
func (c *cluster) freezeLong() {
	i := c.rng.IntN(len(c.nodes))
	c.signal(i, syscall.SIGSTOP)
	c.wait(11*time.Second, 13*time.Second)
	c.signal(i, syscall.SIGCONT)
}

func (c *cluster) someLink() *faultnet.Link { return c.nodes[c.follower()].link }

func (c *cluster) direction() faultnet.Dir {
	return []faultnet.Dir{faultnet.In, faultnet.Out, faultnet.Both}[c.rng.IntN(3)]
}

// frames picks one frame: any, or the next of one type.
func (c *cluster) frames() (faultnet.Dir, func(byte) bool) {
	if c.rng.IntN(3) == 0 {
		return c.direction(), nil
	}
	want := byte(1 + c.rng.IntN(16)) // docs/PROTOCOL.md: hello is 1, bye 16
	return c.direction(), func(typ byte) bool { return typ == want }
}

// cut ends the connections of a link, now or in the midst of what comes.
func (c *cluster) cut() {
	how := []faultnet.Ending{faultnet.Reset, faultnet.Close}[c.rng.IntN(2)]
	if c.rng.IntN(2) == 0 {
		c.someLink().CutAfter(c.direction(), c.rng.IntN(200_000), how)
		return
	}
	c.someLink().Cut(how)
}

func (c *cluster) blackHole() {
	l := c.someLink()
	l.BlackHole(c.direction(), true)
	c.wait(100*time.Millisecond, 3*time.Second)
	l.BlackHole(faultnet.Both, false)
}

func (c *cluster) stall() {
	l := c.someLink()
	l.Stall(c.direction(), true)
	c.wait(100*time.Millisecond, 3*time.Second)
	l.Stall(faultnet.Both, false)
}

func (c *cluster) refuse() {
	l := c.someLink()
	l.Refuse(true)
	l.Cut(faultnet.Reset)
	c.wait(100*time.Millisecond, 2*time.Second)
	l.Refuse(false)
}

// heal ends all faults of a link. A connection that was robbed of a frame is
// ended: TCP does not do such a thing, and a repair that waits for a frame gives
// up only after two minutes.
func (c *cluster) heal(l *faultnet.Link) {
	l.Heal()
	if l.Count(faultnet.Drop)+l.Count(faultnet.BlackHole) > 0 && c.rng.IntN(2) == 0 || l.Count(faultnet.Drop) > 0 {
		l.Cut(faultnet.Reset)
	}
}
