package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The key-value bucket at both ends.
const (
	bucket        = "peers"
	natsStream    = "KV_" + bucket
	natsSubject   = "$KV." + bucket + "."
	natsDomain    = "master" // of the master's JetStream
	natsInFlight  = 8192     // messages that are published and not acknowledged
	natsStartWait = 10 * time.Second
)

// plain turns off compression between servers. By default they compress the more
// the longer the way is, and take a busy machine for a long way.
var plain = server.CompressionOpts{Mode: server.CompressionOff}

// A natsEnd is a server with JetStream in this process, and a client of it.
type natsEnd struct {
	srv *server.Server
	nc  *nats.Conn
	js  jetstream.JetStream
}

// start starts a server, with its data in a directory.
func (e *natsEnd) start(dir, domain string, leaf server.LeafNodeOpts) (err error) {
	e.srv, err = server.NewServer(&server.Options{
		ServerName: domain, Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, JetStreamDomain: domain, StoreDir: dir, LeafNode: leaf,
	})
	if err != nil {
		return err
	}
	e.srv.Start()
	if !e.srv.ReadyForConnections(natsStartWait) {
		return errors.New("the server does not start")
	}
	if e.nc, err = nats.Connect(e.srv.ClientURL()); err != nil {
		return err
	}
	e.js, err = jetstream.New(e.nc, jetstream.WithPublishAsyncMaxPending(natsInFlight), jetstream.WithDefaultTimeout(time.Minute))
	return err
}

func (e *natsEnd) cpu() time.Duration { return 0 }

func (e *natsEnd) close() error {
	if e.nc != nil {
		e.nc.Close()
	}
	if e.srv != nil {
		e.srv.Shutdown()
		e.srv.WaitForShutdown()
	}
	e.srv, e.nc = nil, nil
	return nil
}

// A natsMaster has a key-value bucket.
type natsMaster struct {
	natsEnd
	written int
}

func (m *natsMaster) open(dir string) (addr, note string, err error) {
	err = m.start(dir, natsDomain, server.LeafNodeOpts{Host: "127.0.0.1", Port: server.RANDOM_PORT, Compression: plain})
	if err != nil {
		return "", "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if _, err = m.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket, Storage: jetstream.FileStorage}); err != nil {
		return "", "", err
	}
	v, err := m.srv.Varz(nil)
	if err != nil {
		return "", "", err
	}
	note = fmt.Sprintf("NATS: server %s embedded at both ends, a key-value bucket in files, synced every two minutes as is its default, and "+
		"a mirror of it over a leaf node connection, not compressed; up to %d messages published and not acknowledged.", server.VERSION, natsInFlight)
	return fmt.Sprintf("127.0.0.1:%d", v.LeafNode.Port), note, nil
}

// load publishes to the bucket's subjects, as Put does, without waiting for
// each acknowledgement.
func (m *natsMaster) load(l load) (mark string, err error) {
	var futures []jetstream.PubAckFuture
	err = newWorkload(l.seed).each(l.n, 1000, func(pairs []pair) error {
		for _, p := range pairs {
			f, err := m.js.PublishAsync(natsSubject+string(p.key), p.value, jetstream.WithStallWait(waitLimit))
			if err != nil {
				return err
			}
			futures = append(futures, f)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	select {
	case <-m.js.PublishAsyncComplete():
	case <-time.After(waitLimit):
		return "", errors.New("not all messages were acknowledged")
	}
	for _, f := range futures {
		select {
		case err := <-f.Err():
			return "", err
		default:
		}
	}
	m.written += l.n
	return strconv.Itoa(m.written), nil
}

// A natsReplica has a mirror of the bucket.
type natsReplica struct {
	natsEnd
	dir, addr string
	stream    jetstream.Stream
}

func (r *natsReplica) open(dir, addr string) error {
	r.dir, r.addr = dir, addr
	remote := &server.RemoteLeafOpts{URLs: []*url.URL{{Scheme: "nats-leaf", Host: addr}}, Compression: plain}
	if err := r.start(dir, "replica", server.LeafNodeOpts{Remotes: []*server.RemoteLeafOpts{remote}}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	var err error
	// As CreateKeyValue makes a mirror, but one from which messages may be
	// deleted: there is no other way to harm it.
	r.stream, err = r.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: natsStream, Storage: jetstream.FileStorage, MaxMsgsPerSubject: 1, AllowDirect: true, Discard: jetstream.DiscardNew,
		Mirror: &jetstream.StreamSource{Name: natsStream, External: &jetstream.ExternalStream{APIPrefix: "$JS." + natsDomain + ".API"}},
	})
	return err
}

// wait looks at the mirror's last sequence number every few milliseconds: the
// master's are those of the messages, and all keys are new.
func (r *natsReplica) wait(mark string) error {
	want, err := strconv.ParseUint(mark, 10, 64)
	if err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	for {
		info, err := r.stream.Info(ctx)
		if err != nil {
			return err
		}
		if info.State.LastSeq >= want {
			return nil
		}
		<-tick.C
	}
}

func (r *natsReplica) each(fn func(key, value []byte)) error {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	info, err := r.stream.Info(ctx)
	if err != nil {
		return err
	}
	c, err := r.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	msgs, err := c.Messages(jetstream.PullMaxMessages(5000))
	if err != nil {
		return err
	}
	defer msgs.Stop()
	for range info.State.Msgs {
		msg, err := msgs.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		fn([]byte(msg.Subject()[len(natsSubject):]), msg.Data())
	}
	return nil
}

func (r *natsReplica) get(key []byte) ([]byte, error) {
	msg, err := r.last(key)
	if msg == nil {
		return nil, err
	}
	return msg.Data, nil
}

// last returns the mirror's message of a key, or nil.
func (r *natsReplica) last(key []byte) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	msg, err := r.stream.GetLastMsgForSubject(ctx, natsSubject+string(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return msg, err
}

// harm deletes all keys: a mirror takes no messages but its origin's, so no key
// can be given another value by means that the server offers.
func (r *natsReplica) harm(pairs []pair) (wrong int, note string, err error) {
	for _, p := range pairs {
		msg, err := r.last(p.key)
		if err != nil || msg == nil {
			return 0, "", errors.Join(err, errors.New("a key to be harmed is not there"))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err = r.stream.DeleteMsg(ctx, msg.Sequence)
		cancel()
		if err != nil {
			return 0, "", err
		}
	}
	wrong, err = countWrong(r.get, pairs)
	note = "NATS's corruption: a mirror takes no messages but its origin's, so no key can be changed or added through its API; " +
		"all keys were deleted from the mirror by DeleteMsg, and its server was stopped and started again."
	return wrong, note, err
}

func (r *natsReplica) resume() error {
	if err := r.close(); err != nil {
		return err
	}
	return r.open(r.dir, r.addr)
}
