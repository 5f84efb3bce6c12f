package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// redisMissing says why Redis cannot be measured; it is empty if it can.
func redisMissing() string {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return "not installed"
	}
	return ""
}

// redisPipeline is how many commands are sent and not answered, at most.
const redisPipeline = 1000

// A redisEnd is a Redis server in a process of its own, and a client of it.
type redisEnd struct {
	memory bool // nothing is to be on disk
	cmd    *exec.Cmd
	conn   *respConn
	addr   string
}

// start starts a server with its data in a directory, and connects to it.
func (e *redisEnd) start(dir string, more ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // to find a port that is free
	if err != nil {
		return err
	}
	e.addr = l.Addr().String()
	l.Close()
	_, port, err := net.SplitHostPort(e.addr)
	if err != nil {
		return err
	}
	e.cmd = exec.Command("redis-server", append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--logfile", "redis.log",
		"--save", "", "--appendonly", map[bool]string{true: "no", false: "yes"}[e.memory], "--appendfsync", "everysec",
		"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
		"--repl-backlog-size", "64mb", "--client-output-buffer-limit", "replica 0 0 0",
	}, more...)...)
	e.cmd.Stderr = os.Stderr
	if err := e.cmd.Start(); err != nil {
		return err
	}
	return e.until("the server to answer", func() (bool, error) {
		conn, err := dialRedis(e.addr)
		if err != nil {
			return false, nil
		}
		if _, err := conn.do("PING"); err != nil {
			conn.nc.Close()
			return false, nil
		}
		e.conn = conn
		return true, nil
	})
}

// until asks every few milliseconds until the answer is yes.
func (e *redisEnd) until(what string, fn func() (bool, error)) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(waitLimit); ; <-tick.C {
		if ok, err := fn(); ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited in vain for %s", what)
		}
	}
}

// info returns a section of INFO.
func (e *redisEnd) info(section string) (map[string]string, error) {
	reply, err := e.conn.do("INFO", section)
	if err != nil {
		return nil, err
	}
	text, ok := reply.([]byte)
	if !ok {
		return nil, errors.New("redis: no text")
	}
	m := map[string]string{}
	for line := range strings.SplitSeq(string(text), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			m[name] = value
		}
	}
	return m, nil
}

// cpu returns the server's processor time.
func (e *redisEnd) cpu() time.Duration {
	if e.conn == nil {
		return 0
	}
	m, err := e.info("cpu")
	if err != nil {
		return 0
	}
	var sum float64
	for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
		v, _ := strconv.ParseFloat(m[name], 64)
		sum += v
	}
	return time.Duration(sum * float64(time.Second))
}

func (e *redisEnd) close() error {
	if e.cmd == nil {
		return nil
	}
	err := e.cmd.Process.Kill() // nobody reads its files again
	_ = e.cmd.Wait()            // it says that it was killed
	e.cmd = nil
	return err
}

// A redisMaster is written to.
type redisMaster struct{ redisEnd }

func (m *redisMaster) open(dir string) (addr, note string, err error) {
	if err := m.start(dir); err != nil {
		return "", "", err
	}
	info, err := m.info("server")
	if err != nil {
		return "", "", err
	}
	if m.memory {
		return m.addr, "", nil
	}
	note = fmt.Sprintf("Redis: redis-server %s at both ends, appendonly yes with appendfsync everysec, diskless sync without delay, "+
		"pipelines of %d; the processor time includes the client that writes.", info["redis_version"], redisPipeline)
	return m.addr, note, nil
}

func (m *redisMaster) load(l load) (mark string, err error) {
	// Who sends waits for room in here, and who receives makes it.
	flight, done := make(chan struct{}, redisPipeline), make(chan error, 1)
	go func() {
		for range l.n {
			if _, err := m.conn.receive(); err != nil {
				m.conn.nc.Close() // so that the sender ends, too
				done <- err
				return
			}
			<-flight
		}
		done <- nil
	}()
	set := []byte("SET")
	err = newWorkload(l.seed).each(l.n, 100, func(pairs []pair) error {
		for _, p := range pairs {
			select {
			case flight <- struct{}{}:
			case err := <-done:
				return errors.Join(err, errors.New("the replies ended"))
			}
			if err := m.conn.send(set, p.key, p.value); err != nil {
				return err
			}
		}
		return m.conn.w.Flush()
	})
	if err != nil {
		return "", err
	}
	if err := <-done; err != nil {
		return "", err
	}
	info, err := m.info("replication")
	return info["master_repl_offset"], err
}

// A redisReplica is a replica of a master.
type redisReplica struct{ redisEnd }

func (r *redisReplica) open(dir, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	return r.start(dir, "--replicaof", host+" "+port)
}

func (r *redisReplica) wait(mark string) error {
	want, err := strconv.ParseInt(mark, 10, 64)
	if err != nil {
		return err
	}
	return r.until("the replica to have everything", func() (bool, error) {
		info, err := r.info("replication")
		if err != nil {
			return false, err
		}
		at, _ := strconv.ParseInt(info["slave_repl_offset"], 10, 64) // none at first
		return info["master_link_status"] == "up" && info["master_sync_in_progress"] == "0" && at >= want, nil
	})
}

func (r *redisReplica) each(fn func(key, value []byte)) error {
	reply, err := r.conn.do("KEYS", "*")
	if err != nil {
		return err
	}
	keys, ok := reply.([]any)
	if !ok {
		return errors.New("redis: no list of keys")
	}
	for len(keys) > 0 {
		batch := keys[:min(len(keys), redisPipeline)]
		keys = keys[len(batch):]
		for _, key := range batch {
			if err := r.conn.send([]byte("GET"), key.([]byte)); err != nil {
				return err
			}
		}
		if err := r.conn.w.Flush(); err != nil {
			return err
		}
		for _, key := range batch {
			value, err := r.conn.receive()
			if err != nil {
				return err
			}
			b, _ := value.([]byte)
			fn(key.([]byte), b)
		}
	}
	return nil
}

func (r *redisReplica) get(key []byte) ([]byte, error) {
	value, err := r.conn.do("GET", string(key))
	b, _ := value.([]byte)
	return b, err
}

// harm writes to the replica, which Redis allows if told to.
func (r *redisReplica) harm(pairs []pair) (wrong int, note string, err error) {
	if _, err := r.conn.do("CONFIG", "SET", "replica-read-only", "no"); err != nil {
		return 0, "", err
	}
	for _, h := range harms(pairs) {
		if h.value == nil {
			_, err = r.conn.do("DEL", string(h.key))
		} else {
			_, err = r.conn.do("SET", string(h.key), string(h.value))
		}
		if err != nil {
			return 0, "", err
		}
	}
	if _, err := r.conn.do("CONFIG", "SET", "replica-read-only", "yes"); err != nil {
		return 0, "", err
	}
	wrong, err = countWrong(r.get, pairs)
	note = "Redis's corruption: with replica-read-only no, one half of the keys was changed and one deleted on the replica, and " +
		"its connection was cut, after which it resumed by itself."
	return wrong, note, err
}

// resume has nothing to do: the connection was cut by the one who calls.
func (r *redisReplica) resume() error { return nil }
