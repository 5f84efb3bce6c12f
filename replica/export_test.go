package replica

import "time"

// WithWall gives a master a clock of its own for the times in its commits, as
// that of a machine may be wrong.
func WithWall(c MasterConfig, now func() time.Time) MasterConfig {
	c.wall = now
	return c
}
