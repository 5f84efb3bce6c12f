// Package transport moves frames between two ends of a byte stream: ordered,
// checksummed, and limited in size before anything is allocated for them. It
// knows nothing of what is inside a frame.
//
// A frame on the wire is
//
//	offset  size  field
//	0       4     length of the body in bytes, big endian
//	4       1     type
//	5       1     lowest byte of the CRC-32C of the five bytes before it
//	6       n     body
//	6+n     4     CRC-32C of all bytes before it, big endian
//
// A [Conn] reads and writes frames over any [net.Conn]. [Listen] and [DialTCP]
// give those over TCP, [Pipe] and [PipeListener] in memory.
//
// # Concurrency
//
// A Conn has one reader and one writer at a time: one goroutine may be in Read
// while another is in Write. Everything else (Close, SetLimit, the deadlines,
// Traffic, RemoteAddr) may be called by any goroutine at any time. Shutdown
// counts as reader and writer.
//
// # Cancellation
//
// Nothing in a Conn takes a context except Shutdown. A blocked Read or Write
// is ended from another goroutine by Close or by a deadline in the past.
//
// # Fake time
//
// The ends of a Pipe block only on channels and timers, so a testing/synctest
// bubble that holds them sees them as durably blocked. Sockets do not.
package transport
