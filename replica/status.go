package replica

import (
	"time"

	"github.com/sdiff/sdiff/replica/store"
)

// Status returns the master's own account of itself. It does not wait for the
// tree.
func (m *Master) Status() Status {
	state, since, why := m.life.get()
	s := Status{Role: store.Master.String(), State: state, Since: since, Why: why, Hash: m.cfg.Hash.ID()}
	if m.cfg.Listener != nil {
		s.Address = m.cfg.Listener.Addr().String()
	}
	s.Store = storeStatus(m.st)
	select {
	case <-m.readyc:
	default:
		return s
	}
	pub, now := m.w.state.Load(), time.Now()
	s.LagKnown = true
	s.Dataset = pub.dataset.String()
	s.Epoch, s.Offset, s.Head = pub.pos.Epoch.String(), pub.pos.Offset, pub.pos.Offset
	s.Keys, s.Fingerprint, s.Master = pub.keys, pub.pos.Fingerprint.String(), pub.pos.Fingerprint.String()
	s.InSync, s.Complete = new(true), true
	s.Progress = pub.at
	s.Scrub = m.scrub.get()
	s.Store.TreeHeap = pub.treeHeap
	oldest, _ := m.w.tail.Bounds()
	s.Log = &LogStatus{Start: pub.logStart.Offset + 1, Bytes: int64(pub.logBytes), Tail: oldest}
	s.Followers = m.followers.list(pub.pos.Offset, &m.ages, now)
	return s
}

// Status returns the follower's own account of itself. It does not wait for
// the tree.
func (f *Follower) Status() Status {
	state, since, why := f.life.get()
	s := Status{Role: store.Follower.String(), ID: f.cfg.ID, State: state, Since: since, Why: why, Hash: f.cfg.Hash.ID()}
	s.Store = storeStatus(f.st)
	at := f.state.Load()
	if at == nil {
		return s
	}
	now := time.Now()
	s.Address = at.address
	s.Keys, s.Fingerprint = at.own.Count, at.own.String()
	s.Complete, s.Progress, s.LastRepair = at.complete, at.progress, at.last
	s.Store.TreeHeap = at.treeHeap
	s.Scrub = f.scrub.get()
	if !at.contact.IsZero() {
		s.LastContact = new(at.contact)
	}
	if !at.served {
		return s
	}
	s.Dataset = at.dataset.String()
	s.Epoch, s.Offset, s.Head = at.pos.Epoch.String(), at.pos.Offset, at.head.Offset
	s.Master = at.pos.Fingerprint.String()
	if state != Parked { // then the master is of another mind about what was there
		s.InSync = new(at.own == at.pos.Fingerprint)
	}
	s.LagKnown = at.connected
	s.LagCommits = at.head.Offset - at.pos.Offset
	s.LagSeconds = f.heads.behind(at.pos.Offset, now).Seconds()
	return s
}

func storeStatus(st store.Store) StoreStatus {
	info := st.Info()
	return StoreStatus{Path: info.Path, Bytes: info.Size, Free: info.Free, Sync: info.Sync, Notes: info.Notes}
}
