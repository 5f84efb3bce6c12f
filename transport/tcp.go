package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// DialTimeout bounds how long a dial of this package takes.
const DialTimeout = 10 * time.Second

// ErrAddressInUse is returned by Listen when another socket has the address.
var ErrAddressInUse = errors.New("address in use by another process")

// keepAlive finds dead peers in about a minute where the layer above does not.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3}

// Listen listens on a TCP address, host:port; port 0 picks a free one, which
// Addr tells. Accepted connections send without delay (TCP_NODELAY) and probe
// idle peers. The error names the address, and is ErrAddressInUse where that
// is the reason.
func Listen(addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	l, err := lc.Listen(context.Background(), "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: %w", addr, ErrAddressInUse)
	case err != nil:
		// The net package's error names the address already.
		return nil, err
	}
	return l, nil
}

// DialTCP returns a function that connects to a TCP address, host:port, within
// DialTimeout or until ctx ends. The name is looked up anew by every call.
// Connections send without delay (TCP_NODELAY) and probe idle peers.
func DialTCP(addr string) func(ctx context.Context) (net.Conn, error) {
	d := &net.Dialer{Timeout: DialTimeout, KeepAliveConfig: keepAlive}
	return func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", addr)
	}
}
