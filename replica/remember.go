package replica

import (
	"context"
	"time"
)

// remember stores what is known of a follower.
func (m *Master) remember(ctx context.Context, id string) error {
	_, err := m.w.do(ctx, &request{records: m.followers.record(id)})
	return err
}

// rememberPause is how often what became of followers is stored: those who come
// and go all the time would have the writer sync for each.
const rememberPause = time.Second

// keepRemembered stores what became of followers, until ctx ends. What it has
// not stored by then rememberAll does.
func (m *Master) keepRemembered(ctx context.Context) error {
	for {
		select {
		case <-m.followers.newsc:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for recs := m.followers.noted(); len(recs) > 0; recs = m.followers.noted() {
			if _, err := m.w.do(ctx, &request{records: recs}); err != nil {
				m.followers.unstored(recs)
				if ctx.Err() == nil {
					m.cfg.Logger.Warn("cannot remember followers", "followers", len(recs), "error", err)
				}
				break
			}
		}
		sleep(ctx, rememberPause)
	}
}

// rememberAll stores what is known of all followers, at the end.
func (m *Master) rememberAll() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for recs := m.followers.dirty(); len(recs) > 0; recs = m.followers.dirty() {
		if _, err := m.w.do(ctx, &request{records: recs}); err != nil {
			return
		}
	}
}
