package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sdiff/sdiff/internal/control"
)

// maxStdin bounds a value from standard input. Stores take less: it only keeps
// the wrong file from filling the memory.
const maxStdin = 16 << 20

// putCommand makes one commit of one op. Whether the key was there does not
// matter: put means "from now on".
func (a *app) putCommand() *cobra.Command {
	var enc encoding
	var timeout time.Duration
	cmd := a.command("put KEY VALUE|-", "Put a key", `Writes one item and prints the position of its commit. With - the value is
read from standard input, to its end and as it is. --hex and --base64 say how
KEY and VALUE are written, standard input included.`,
		takes("KEY", "VALUE (- reads it from standard input)"),
		func(ctx context.Context, cmd *cobra.Command, args []string) error {
			ctx, cancel := withTimeout(ctx, timeout)
			defer cancel()
			c, err := a.client(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			key, err := enc.decode(cmd, "key", args[0])
			if err != nil {
				return err
			}
			value, err := a.value(ctx, cmd, enc, args[1])
			if err != nil {
				return err
			}
			p, err := c.Write(ctx, []control.Op{{Key: key, Value: value}})
			if err != nil {
				return err
			}
			a.position(p)
			return nil
		})
	a.addData(cmd)
	addEncoding(cmd, &enc, "KEY and VALUE")
	addTimeout(cmd, &timeout, answerTimeout)
	return cmd
}

// value returns the value that an argument stands for.
func (a *app) value(ctx context.Context, cmd *cobra.Command, enc encoding, arg string) ([]byte, error) {
	if arg != "-" {
		return enc.decode(cmd, "value", arg)
	}
	b, err := io.ReadAll(io.LimitReader(interruptible(ctx, a.stdin), maxStdin+1))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &failure{code: control.BadInput, msg: fmt.Sprintf("read standard input: %v", err)}
	case len(b) > maxStdin:
		return nil, &failure{code: control.TooLarge, msg: fmt.Sprintf("standard input is larger than %d bytes", maxStdin)}
	case enc.hex || enc.base64:
		return enc.decode(cmd, "value", string(bytes.TrimSpace(b)))
	}
	return b, nil
}

// position prints where a commit stands.
func (a *app) position(p control.Position) {
	if a.output == "json" {
		a.json(p)
		return
	}
	a.printf("offset %d, fingerprint %s\n", p.Offset, p.Fingerprint)
}
