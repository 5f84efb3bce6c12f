package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// roleEnv tells a process of ours that it is one end of a system.
const roleEnv = "SDIFF_PEERS_ROLE"

// A call tells a process of ours what to do. Which fields count depends on Do.
type call struct {
	Do   string
	Dir  string
	Addr string
	Seed uint64
	N    int
	Mark string // what the replica is to wait for
}

// An answer is what came of a call.
type answer struct {
	Err   string        `json:",omitempty"`
	Addr  string        `json:",omitempty"` // where a replica connects to
	Mark  string        `json:",omitempty"`
	Count int           `json:",omitempty"`
	Note  string        `json:",omitempty"`
	CPU   time.Duration // of the process so far, and of what it started
}

// A player is one end of a system, from the inside.
type player interface {
	do(c call) (answer, error)
	// cpu returns the processor time of what it started outside of this process.
	cpu() time.Duration
	close() error
}

// play is the main function of a process of ours: it answers calls until
// standard input ends.
func play(role string) (err error) {
	create, ok := players[role]
	if !ok {
		return errors.New("no such role")
	}
	p := create()
	defer func() { err = errors.Join(err, p.close()) }()
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var c call
		if err := in.Decode(&c); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		a, err := p.do(c)
		if err != nil {
			a.Err = fmt.Sprintf("%s: %v", c.Do, err)
		}
		a.CPU = cpuTime() + p.cpu()
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// players are the roles that a process of ours can have.
var players = map[string]func() player{
	"sdiff master":         func() player { return &masterPlayer{masterEnd: new(sdiffMaster)} },
	"sdiff replica":        func() player { return &replicaPlayer{replicaEnd: new(sdiffReplica)} },
	"sdiff-memory master":  func() player { return &masterPlayer{masterEnd: &sdiffMaster{memory: true}} },
	"sdiff-memory replica": func() player { return &replicaPlayer{replicaEnd: &sdiffReplica{memory: true}} },
	"nats master":          func() player { return &masterPlayer{masterEnd: new(natsMaster)} },
	"nats replica":         func() player { return &replicaPlayer{replicaEnd: new(natsReplica)} },
	"redis master":         func() player { return &masterPlayer{masterEnd: new(redisMaster)} },
	"redis replica":        func() player { return &replicaPlayer{replicaEnd: new(redisReplica)} },
	"redis-memory master":  func() player { return &masterPlayer{masterEnd: &redisMaster{redisEnd{memory: true}}} },
	"redis-memory replica": func() player { return &replicaPlayer{replicaEnd: &redisReplica{redisEnd{memory: true}}} },
}

// A child is a process of ours, from the outside.
type child struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	enc  *json.Encoder
	dec  *json.Decoder
}

// start starts this program in a role. It runs until stop.
func start(role string) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{role: role, cmd: exec.Command(exe)}
	c.cmd.Env = append(os.Environ(), roleEnv+"="+role)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.enc, c.dec = json.NewEncoder(c.in), json.NewDecoder(out)
	return c, nil
}

// stop ends the process and waits for it. It may be called again, and for nil.
func (c *child) stop() error {
	if c == nil || c.in == nil {
		return nil
	}
	c.in.Close() // its pipe: there is nothing left to be lost
	c.in = nil
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", c.role, err)
	}
	return nil
}

// do makes a call and waits for the answer.
func (c *child) do(what call) (a answer, err error) {
	if err = c.enc.Encode(what); err == nil {
		err = c.dec.Decode(&a)
	}
	if err == nil && a.Err != "" {
		err = errors.New(a.Err)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", c.role, err)
	}
	return a, err
}

// cpu returns the processor time of some processes so far.
func cpu(children ...*child) (sum time.Duration, err error) {
	for _, c := range children {
		a, err := c.do(call{Do: "cpu"})
		if err != nil {
			return 0, err
		}
		sum += a.CPU
	}
	return sum, nil
}
