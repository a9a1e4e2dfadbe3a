//go:build linux

package control

import (
	"sync"
	"time"
)

// roomRefused is the notification of that name.
type roomRefused struct {
	What        string    `json:"what"`
	Why         string    `json:"why"`
	Path        innerPath `json:"path"`
	Count       int       `json:"count"`
	NeededBytes int64     `json:"neededBytes"`
	LimitBytes  int64     `json:"limitBytes"`
	UsedBytes   int64     `json:"usedBytes"`
}

// refusedPeriod is how often the keeper is told of one kind of refusals at most: a guest may try again without end.
const refusedPeriod = time.Second

// refusals tells the keeper of writes that failed for want of room: the first at once, those after it together.
type refusals struct {
	tell func(roomRefused)

	mu   sync.Mutex
	kind map[string]*refusalsOfKind
}

type refusalsOfKind struct {
	last    time.Time
	waiting *roomRefused
}

func (r *refusals) add(one roomRefused) {
	r.mu.Lock()
	if r.kind == nil {
		r.kind = map[string]*refusalsOfKind{}
	}
	k := r.kind[one.What]
	if k == nil {
		k = &refusalsOfKind{}
		r.kind[one.What] = k
	}
	one.Count = 1
	switch since := time.Since(k.last); {
	case k.waiting != nil:
		one.Count += k.waiting.Count
		k.waiting = &one
		r.mu.Unlock()
	case since < refusedPeriod:
		k.waiting = &one
		time.AfterFunc(refusedPeriod-since, r.flush)
		r.mu.Unlock()
	default:
		k.last = time.Now()
		r.mu.Unlock()
		r.tell(one)
	}
}

// flush tells what waits.
func (r *refusals) flush() {
	var all []roomRefused
	r.mu.Lock()
	for _, k := range r.kind {
		if k.waiting != nil {
			all = append(all, *k.waiting)
			k.waiting, k.last = nil, time.Now()
		}
	}
	r.mu.Unlock()
	for _, one := range all {
		r.tell(one)
	}
}
