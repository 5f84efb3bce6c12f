// Package control lets other processes of the same user ask a running replica:
// HTTP and JSON over a unix socket in the replica's directory. The commands of
// sdiff are its client; curl is another:
//
//	curl --unix-socket DIR/control.sock http://sdiff/v1/status
//
// # Requests
//
// Every request is one JSON object, every answer one JSON object or, from list,
// watch and repair, JSON lines: see Frame. Keys and values are base64, as
// encoding/json has it for []byte. An error is {"error":{"code","message"}}
// with an HTTP status of 400 and above, or the last line of a stream.
//
// # Security
//
// Whoever can open the socket can do everything: it is created with mode 0600
// before it can be reached at all, and there is no other protection.
//
// # Concurrency
//
// Server and Client are safe for concurrent use. At most MaxRequests requests
// are served at once; one more is refused. A client that reads nothing for
// minutes is dropped.
package control
